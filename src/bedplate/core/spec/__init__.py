"""The project as frozen pydantic models, one file a kind of declaration. The reference page of `bedplate.yaml` is tested against them.

Does not know: YAML or positions (`source`), references between fields (`project`), files, hardware or engines.
"""

from bedplate.core.spec.base import Column, Declared, Entry, Name
from bedplate.core.spec.dataset import KAFKA, ColumnType, Dataset
from bedplate.core.spec.endpoint import Batching, Endpoint
from bedplate.core.spec.expectation import Expectation, Range, RowCount
from bedplate.core.spec.feature import FEATURE_KINDS, Aggregate, AnyFeature, Feature, OnDemand
from bedplate.core.spec.inputs import INPUT_KINDS, AnyInputs, ImageInputs, Inputs, Split, TextInputs
from bedplate.core.spec.job import Checkpoints, Job, Keep, LogMeaning, ProfiledSteps
from bedplate.core.spec.model import MODEL_KINDS, AnyModel, Imported, Model, Promote
from bedplate.core.spec.policy import RULES, Policies, Residence, Rule
from bedplate.core.spec.resources import SPLIT_BACKWARD, Architecture, AxisSize, MeshAxes, Resources, Schedule
from bedplate.core.spec.retention import Retention
from bedplate.core.spec.scaling import RollbackWhen, Rollout, Scale, ScaleTarget, Warm
from bedplate.core.spec.watch import Trigger
from bedplate.core.spec.whole import ProjectSpec

__all__ = [
    "FEATURE_KINDS",
    "INPUT_KINDS",
    "KAFKA",
    "MODEL_KINDS",
    "RULES",
    "SPLIT_BACKWARD",
    "Aggregate",
    "AnyFeature",
    "AnyInputs",
    "AnyModel",
    "Architecture",
    "AxisSize",
    "Batching",
    "Checkpoints",
    "Column",
    "ColumnType",
    "Dataset",
    "Declared",
    "Endpoint",
    "Entry",
    "Expectation",
    "Feature",
    "ImageInputs",
    "Imported",
    "Inputs",
    "Job",
    "Keep",
    "LogMeaning",
    "MeshAxes",
    "Model",
    "Name",
    "OnDemand",
    "Policies",
    "ProfiledSteps",
    "ProjectSpec",
    "Promote",
    "Range",
    "Residence",
    "Resources",
    "Retention",
    "RollbackWhen",
    "Rollout",
    "RowCount",
    "Rule",
    "Scale",
    "ScaleTarget",
    "Schedule",
    "Split",
    "TextInputs",
    "Trigger",
    "Warm",
]
