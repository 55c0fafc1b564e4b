"""The on-demand features that a step's spec names, each with the user's function that computes it.

Does not know: which rows they are computed for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bedplate.core.spec import OnDemand
from bedplate.data.on_demand import OnDemandView
from bedplate.flow.steps.entry import load_function


def on_demand_views(spec: Mapping[str, Any]) -> dict[str, OnDemandView]:
    """By name, in the order in which they run. Raises JobError when a file has no such function."""
    declared = {name: OnDemand.model_validate(values) for name, values in spec.get("on_demand", {}).items()}
    return {
        name: OnDemandView(name, feature.inputs, tuple(feature.columns.items()), load_function(feature.function))
        for name, feature in declared.items()
    }
