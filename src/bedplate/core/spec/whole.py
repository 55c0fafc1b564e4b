"""The project: everything that one project declares.

Does not know: YAML or positions (`source`), or references between fields (`project`).
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from bedplate.core.spec.base import Declared, Name
from bedplate.core.spec.dataset import Dataset
from bedplate.core.spec.endpoint import Endpoint
from bedplate.core.spec.feature import AnyFeature, Feature, OnDemand
from bedplate.core.spec.job import Job
from bedplate.core.spec.model import AnyModel, Imported, Model
from bedplate.core.spec.policy import Policies
from bedplate.core.spec.watch import Trigger


class ProjectSpec(Declared):
    """All that one project declares. `lake` is where its tables lie: `s3://bucket/prefix` or `file:///folder`, else its state folder."""

    project: Name
    lake: str | None = Field(default=None, pattern=r"^(s3://[a-z0-9][a-z0-9.-]+(/[^/?#@]+)*|file:///.+)$")
    datasets: dict[Name, Dataset] = Field(default_factory=dict)
    features: dict[Name, AnyFeature] = Field(default_factory=dict)
    jobs: dict[Name, Job] = Field(default_factory=dict)
    models: dict[Name, AnyModel] = Field(default_factory=dict)
    endpoints: dict[Name, Endpoint] = Field(default_factory=dict)
    watch: dict[Name, Trigger] = Field(default_factory=dict)
    policies: Policies = Policies()

    @property
    def trained(self) -> dict[str, Model]:
        """The models that jobs of this project train."""
        return {name: model for name, model in self.models.items() if isinstance(model, Model)}

    @property
    def imported(self) -> dict[str, Imported]:
        """The models that come from elsewhere."""
        return {name: model for name, model in self.models.items() if isinstance(model, Imported)}

    def stored(self, names: Iterable[str]) -> dict[str, Feature]:
        """Those of the named features that are kept as views of a dataset."""
        declared = {name: self.features[name] for name in names}
        return {name: feature for name, feature in declared.items() if isinstance(feature, Feature)}

    def on_demand(self, names: Iterable[str]) -> dict[str, OnDemand]:
        """Those of the named features that are computed for each row when it is asked for."""
        declared = {name: self.features[name] for name in names}
        return {name: feature for name, feature in declared.items() if isinstance(feature, OnDemand)}
