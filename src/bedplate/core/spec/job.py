"""Jobs: a function or a command, its inputs, checkpoints and what is done about failures.

Does not know: how a job is run (`flow.steps`) or recovered (`train`).
"""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bedplate.core.clock import duration_s
from bedplate.core.errors import SpecError
from bedplate.core.spec.base import Declared, Entry, Name
from bedplate.core.spec.inputs import AnyInputs, Split
from bedplate.core.spec.resources import SPLIT_BACKWARD, Architecture, MeshAxes, Resources

LogMeaning = Literal["stop", "restart", "exclude_node", "user_error", "out_of_memory", "numeric", "worker_lost", "node_lost", "hang"]


class Keep(Declared):
    """Which checkpoints are kept: the `last` so many, each `every`-th, and the best by the metric `best` (small is good, or `-name`)."""

    last: int = Field(default=2, ge=1, le=10_000)
    every: int = Field(default=0, ge=0)
    best: str | None = Field(default=None, pattern=r"^-?[^\s-]\S*$")


class Checkpoints(Declared):
    """How often a checkpoint is written (a duration, or `auto`), where to (the fastest tier first), and which are kept."""

    every: str = "30s"
    tiers: tuple[str, ...] = ("disk",)
    keep: Keep = Keep()

    @field_validator("every")
    @classmethod
    def _interval(cls, value: str) -> str:
        try:
            if value != "auto":
                duration_s(value)
        except SpecError as error:
            raise ValueError(f"{error.one_line()}; or write auto") from error
        return value

    @field_validator("tiers")
    @classmethod
    def _known_tiers(cls, tiers: tuple[str, ...]) -> tuple[str, ...]:
        for tier in tiers:
            if not re.fullmatch(r"memory|peer|disk|(s3|gs|az|file)://\S+", tier):
                raise ValueError(f"{tier!r} is no tier: use memory, peer, disk or an object store such as s3://bucket/prefix")
        if not tiers or len(set(tiers)) != len(tiers):
            raise ValueError("name each tier once, and at least one")
        return tiers


class ProfiledSteps(Declared):
    """A window of steps of rank 0 that torch.profiler looks into: `steps` of them, once `after` have passed."""

    steps: int = Field(default=10, ge=1, le=1000)
    after: int = Field(default=20, ge=2)


class Job(Declared):
    """A piece of the user's own code: a function that takes a run, or a plain command.

    `outputs` are files inside the project or streams (`log://topic`) that it writes; `code` names further files that its result depends on.
    `base` is a model of the project that it starts from.
    """

    function: Entry | None = None
    command: str | None = None
    inputs: AnyInputs | None = None
    base: Name | None = None
    split: Split = Split()
    params: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    resources: Resources = Resources()
    outputs: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    checkpoint: Checkpoints = Checkpoints()
    max_restarts: int = Field(default=3, ge=0, le=100)
    max_time: str | None = None
    mesh: MeshAxes | Literal["auto"] | None = None
    architecture: Architecture | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    accumulate: int = Field(default=1, ge=1, le=65536)
    activation_checkpointing: bool = False
    compile: bool = False
    recovery: Literal["in_place", "fork", "attempt", "replicas"] = "in_place"
    on_log: dict[str, LogMeaning] = Field(default_factory=dict)
    on_out_of_memory: Literal["stop", "halve_micro_batch"] = "stop"
    on_numeric: Literal["stop", "rollback"] = "stop"
    rollback: int = Field(default=1, ge=1, le=100)
    loss_spike: float | None = Field(default=None, gt=1)
    hang_after: str | None = None
    start_limit: str = "30m"
    preemption_notice: str | None = None
    profile: ProfiledSteps | None = None

    @property
    def mesh_is_planned(self) -> bool:
        """Whether the mesh, or an axis of it, is left to the planner."""
        return bool(self.mesh.planned) if isinstance(self.mesh, MeshAxes) else self.mesh == "auto"

    @field_validator("on_log")
    @classmethod
    def _patterns(cls, patterns: dict[str, LogMeaning]) -> dict[str, LogMeaning]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns

    @field_validator("checkpoint", mode="before")
    @classmethod
    def _interval_alone(cls, value: Any) -> Any:
        return {"every": value} if isinstance(value, str) else value

    @field_validator("max_time", "hang_after", "start_limit")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                duration_s(value)
        except SpecError as error:
            raise ValueError(error.one_line()) from error
        return value

    @model_validator(mode="after")
    def _one_entry(self) -> Self:
        if bool(self.function) == bool(self.command):
            raise ValueError("give either `function: file.py:name` or `command: ...`")
        return self

    @model_validator(mode="after")
    def _mesh_fits(self) -> Self:
        if isinstance(self.mesh, MeshAxes):
            least, most = self.resources.worker_range()
            whole = self.mesh.data is not None and not self.mesh.planned
            if least % self.mesh.ranks or most % self.mesh.ranks or (whole and {least, most} != {self.mesh.ranks}):
                raise ValueError(f"the axes of `mesh` multiply to {self.mesh.ranks}, and `resources` has {least} workers")
            if least != most and set(self.mesh.planned) - {"data"}:
                raise ValueError("with a range of workers only `data` may be `auto`, as their number changes while the run goes on")
            if self.activation_checkpointing and self.mesh.pipeline != 1 and self.mesh.schedule in SPLIT_BACKWARD:
                raise ValueError(f"{self.mesh.schedule} cannot recompute activations, as it splits the backward pass: use 1F1B")
        return self
