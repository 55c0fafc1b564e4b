"""Features: windows, columns, decay, and what is none."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bedplate.core.spec import Feature

WINDOWS = {"windows": ["6h"], "aggregates": {"gain": ["mean"]}}


def test_a_feature_is_windows_with_aggregates_or_columns() -> None:
    feature = Feature.model_validate({"from": "arrivals", "entity": "origin", **WINDOWS})
    assert (feature.from_, feature.entity, feature.windows) == ("arrivals", ("origin",), ("6h",))
    assert Feature.model_validate({"from": "a", "entity": ["x", "y"], "columns": ["z"]}).entity == ("x", "y")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"windows": ["6h"]},
        {"aggregates": {"gain": ["mean"]}},
        {**WINDOWS, "columns": ["z"]},
        {**WINDOWS, "windows": ["6 parsecs"]},
        {**WINDOWS, "aggregates": {"gain": ["median"]}},
        {**WINDOWS, "entity": []},
        {**WINDOWS, "from": None},
    ],
)
def test_what_is_no_feature(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Feature.model_validate({"from": "a", "entity": "x", **values})


@pytest.mark.parametrize(
    "changes",
    [{"half_lives": ["6h"]}, {"aggregates": {"gain": ["decayed_sum"]}}, {"windows": [], "half_lives": ["1h"]}, {"ttl": "soon"}],
)
def test_what_decays_has_half_lives_and_what_does_not_has_windows(changes: dict[str, object]) -> None:
    values = {"from": "events", "entity": "origin", "windows": ["1h"], "aggregates": {"gain": ["min"]}}
    with pytest.raises(ValueError, match=r"half_lives|windows|duration"):
        Feature.model_validate(values | changes)
    both = {"half_lives": ["1h"], "aggregates": {"gain": ["min", "decayed_mean"]}, "ttl": "2d"}
    assert Feature.model_validate(values | both).ttl == "2d"
