"""The project: what a user declares, as frozen pydantic models. The reference page of `bedplate.yaml` is tested against them.

Does not know: YAML or positions (`source`), references between fields (`project`), files, hardware or engines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from bedplate.core.clock import duration_s
from bedplate.core.errors import SpecError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
LogMeaning = Literal["stop", "restart", "exclude_node", "user_error", "out_of_memory", "numeric", "worker_lost", "node_lost", "hang"]
Schedule = Literal["GPipe", "1F1B", "Interleaved1F1B", "LoopedBFS", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV"]
SPLIT_BACKWARD = ("InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV")  # gradients of inputs first, of weights later
AxisSize = Annotated[int, Field(ge=1)] | Literal["auto"]
ColumnType = Literal["string", "int", "float", "bool", "timestamp"]
Aggregate = Literal["count", "sum", "mean", "min", "max", "last", "distinct", "decayed_sum", "decayed_count", "decayed_mean"]
_PLACE = r"^[a-z][a-z0-9_-]*\.[A-Za-z_]\w*$"  # dataset.column
Entry = Annotated[str, Field(pattern=r"^[\w./-]+\.py:[A-Za-z_]\w*$")]


class Declared(BaseModel):
    """The base of all that is declared: unknown fields are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class Dataset(Declared):
    """A table of the lake and where its rows come from.

    `source` is a file (CSV, Parquet, JSON lines; gz and zst), a pattern of text files (`text/**/*.py`: columns path and text) or a
    stream (`log://topic`). `known_at` names the column that says when
    a row could be known, `event_time` when what it tells of happened. With `backfill: trusted` the time of arrival here is ignored: a
    replay of the past is taken at its word. `subject` names the column that says which person a row is about; `license` and `residency`
    are what a data sheet says. These three change no step.
    """

    source: str = Field(min_length=1)
    key: tuple[Column, ...] = ()
    event_time: Column | None = None
    known_at: Column | None = None
    columns: dict[Column, ColumnType] = Field(default_factory=dict)
    derive: dict[Column, str] = Field(default_factory=dict)
    backfill: Literal["trusted", "untrusted"] = "untrusted"
    subject: Column | None = None
    license: str | None = Field(default=None, min_length=1)
    residency: str | None = Field(default=None, min_length=1)

    @property
    def topic(self) -> str | None:
        """The topic of a `log://` source, else None."""
        return self.source.removeprefix("log://") if self.source.startswith("log://") else None

    @field_validator("source")
    @classmethod
    def _known_scheme(cls, source: str) -> str:
        scheme, separator, rest = source.partition("://")
        if separator and scheme != "log":
            raise ValueError(f"unknown scheme {scheme!r}: use a path inside the project or log://topic")
        if separator and not re.fullmatch(r"[a-z][a-z0-9_.-]{0,62}", rest):
            raise ValueError(f"{rest!r} is no topic: use lower-case letters, digits, '.', '_' and '-'")
        return source


class Feature(Declared):
    """A feature view over a dataset: windowed aggregates of its events, or its columns as of a time.

    A window of length W at time T covers (T - W, T] of the times at which the events were known. Aggregates that decay have no window: an
    event of age t counts 2^-(t / half-life). `ttl`: a value as of a time is null when it is older; the online store forgets what is.
    """

    from_: Name = Field(alias="from")
    entity: tuple[Column, ...]
    windows: tuple[str, ...] = ()
    half_lives: tuple[str, ...] = ()
    aggregates: dict[Column, tuple[Aggregate, ...]] = Field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    ttl: str | None = None

    @field_validator("entity", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("ttl")
    @classmethod
    def _duration(cls, ttl: str | None) -> str | None:
        return None if ttl is None else cls._durations((ttl,))[0]

    @field_validator("windows", "half_lives")
    @classmethod
    def _durations(cls, windows: tuple[str, ...]) -> tuple[str, ...]:
        for window in windows:
            try:
                duration_s(window)
            except SpecError as error:
                raise ValueError(error.one_line()) from error
        return windows

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        asked = {aggregate for aggregates in self.aggregates.values() for aggregate in aggregates}
        decayed = {aggregate for aggregate in asked if aggregate.startswith("decayed_")}
        if bool(self.aggregates) == bool(self.columns) or bool(asked - decayed) != bool(self.windows):
            raise ValueError("give either `windows` with `aggregates`, or `columns`")
        if bool(decayed) != bool(self.half_lives):
            raise ValueError("give `half_lives` with aggregates that decay, and only with them")
        if not self.entity:
            raise ValueError("name at least one entity column")
        return self


class OnDemand(Declared):
    """Features that a function computes from fields of a row and from other features, in training and for each request alike.

    The function takes a mapping of column name to Arrow array, those of `inputs`, and returns one with `columns`.
    """

    function: Entry
    inputs: tuple[Column, ...] = Field(min_length=1)
    columns: dict[Column, ColumnType] = Field(min_length=1)


def _feature_kind(value: Any) -> str:
    """Which kind of feature a declaration is: only one that is computed on demand has a function."""
    fields = value if isinstance(value, dict) else dict(value) if isinstance(value, Declared) else {}
    return FEATURE_KINDS["function" in fields]


FEATURE_KINDS = ("stored feature", "on-demand feature")
AnyFeature = Annotated[
    Annotated[Feature, Tag("stored feature")] | Annotated[OnDemand, Tag("on-demand feature")],
    Discriminator(_feature_kind),
]


class Inputs(Declared):
    """What a job trains on: the rows of the spine, whole and in order, with a label and point-in-time features joined to them."""

    spine: Name
    columns: tuple[Column, ...] = ()
    label: str = Field(pattern=_PLACE)
    features: tuple[Name, ...] = ()


class TextInputs(Declared):
    """What a language model trains on: documents packed one after another, `end` between them, in samples of `sequence` tokens.

    `tokenizer` is a file of the `tokenizers` library: one in the project, an output of a job, or a job with one such output.
    `end` is the token that ends a document; unset, the first of the usual ones that the tokenizer has. Documents are put in an order that
    `seed` gives. `store` is where shards lie when not in the project's state, `window` how many of them are shuffled together.
    """

    text: str = Field(pattern=_PLACE)
    tokenizer: str = Field(min_length=1)
    sequence: int = Field(ge=1, le=1 << 20)
    end: str | None = None
    seed: int = Field(default=0, ge=0)
    store: str | None = None
    window: int | None = Field(default=None, ge=1)

    @property
    def dataset(self) -> str:
        """The dataset that has the documents."""
        return self.text.partition(".")[0]


class ImageInputs(Declared):
    """What an image model trains on: the images that a column names (a file in the project, or `data:` with base64), resized to `size`.

    `size` is [height, width] in pixels. `label` is a column of the same dataset: text, bool and int are classes, float is a number.
    `seed`, `store` and `window` are as for text.
    """

    images: str = Field(pattern=_PLACE)
    label: str | None = Field(default=None, pattern=_PLACE)
    size: tuple[Annotated[int, Field(ge=1, le=16384)], Annotated[int, Field(ge=1, le=16384)]]
    seed: int = Field(default=0, ge=0)
    store: str | None = None
    window: int | None = Field(default=None, ge=1)

    @property
    def dataset(self) -> str:
        """The dataset that has the images."""
        return self.images.partition(".")[0]

    @model_validator(mode="after")
    def _one_dataset(self) -> Self:
        if self.label is not None and self.label.partition(".")[0] != self.dataset:
            raise ValueError("`label` and `images` must be columns of one dataset")
        return self


def _inputs_kind(value: Any) -> str:
    """Which kind of inputs a declaration is, by the field that only that kind has."""
    fields = value if isinstance(value, dict) else dict(value) if isinstance(value, Declared) else {}
    return next((INPUT_KINDS[field] for field in INPUT_KINDS if field in fields), "table inputs")


INPUT_KINDS = {"text": "text inputs", "images": "image inputs", "spine": "table inputs"}
AnyInputs = Annotated[
    Annotated[Inputs, Tag("table inputs")] | Annotated[TextInputs, Tag("text inputs")] | Annotated[ImageInputs, Tag("image inputs")],
    Discriminator(_inputs_kind),
]


class Split(Declared):
    """How rows divide into train, valid and test: by time, the last part is the test.

    Documents and images without a time divide by a seeded hash of their content.
    """

    by: Literal["time"] = "time"
    valid: float = 0.1
    test: float = 0.2

    @field_validator("valid", "test", mode="before")
    @classmethod
    def _percent(cls, value: Any) -> Any:
        if isinstance(value, str) and value.strip().endswith("%"):
            return float(value.strip()[:-1]) / 100
        return value

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if min(self.valid, self.test) < 0 or self.valid + self.test >= 1:
            raise ValueError("valid and test must be fractions that leave something to train on")
        return self


class Resources(Declared):
    """What a step needs. `workers` is the world size, or a range "2..8"; `cpus`, `memory_gb` and `accelerators` (a count or a range "0..1",
    with or without a type: "v5e:8") are per worker. A range of workers is kept as its least, `workers`, and its most, `most_workers`.
    """

    workers: int = Field(default=1, ge=1, le=4096)
    most_workers: int | None = Field(default=None, ge=1, le=4096)
    cpus: float = Field(default=1.0, gt=0)
    memory_gb: float = Field(default=0.0, ge=0)
    accelerators: str = "0"

    @model_validator(mode="before")
    @classmethod
    def _workers_range(cls, values: Any) -> Any:
        written = values.get("workers") if isinstance(values, dict) else None
        match = re.fullmatch(r"(\d+)\.\.(\d+)", written) if isinstance(written, str) else None
        return {**values, "workers": int(match.group(1)), "most_workers": int(match.group(2))} if match else values

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.most_workers is not None and self.most_workers < self.workers:
            raise ValueError("write the range of workers from the least to the most, for example 2..8")
        return self

    def worker_range(self) -> tuple[int, int]:
        """The least and the most workers."""
        return self.workers, self.most_workers or self.workers

    @field_validator("accelerators", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("accelerators")
    @classmethod
    def _range(cls, value: str) -> str:
        match = re.fullmatch(r"(?:[A-Za-z][\w.-]*:)?(\d+)(?:\.\.(\d+))?", value)
        if match is None or int(match.group(1)) > int(match.group(2) or match.group(1)):
            raise ValueError("write a count, a range or a type with one of them, for example 1, 0..1 or v5e:8")
        return value

    @property
    def accelerator_type(self) -> str:
        """The type that `accelerators` names (`v5e` of `v5e:8`), or the empty string for any."""
        return self.accelerators.rpartition(":")[0]

    def accelerator_range(self) -> tuple[int, int]:
        """The least and the most accelerators a worker can use."""
        low, _, high = self.accelerators.rpartition(":")[2].partition("..")
        return int(low), int(high or low)


class MeshAxes(Declared):
    """How the workers of a job share its model: ranks on each axis. `data` takes what the others leave; those that say `auto` are planned.

    `schedule` and `micro_batches` are of a pipeline.
    """

    data: AxisSize | None = None
    shard: AxisSize = 1
    tensor: AxisSize = 1
    pipeline: AxisSize = 1
    context: int = Field(default=1, ge=1)
    schedule: Schedule = "1F1B"
    micro_batches: int | None = Field(default=None, ge=1)

    @property
    def settled(self) -> dict[str, int]:
        """The axes whose size is declared; all but `data` have one."""
        named = {axis: getattr(self, axis) for axis in ("data", "shard", "tensor", "pipeline", "context")}
        return {axis: size for axis, size in named.items() if isinstance(size, int)}

    @property
    def planned(self) -> tuple[str, ...]:
        """The axes that are left to the planner."""
        return tuple(axis for axis in ("data", "shard", "tensor", "pipeline") if getattr(self, axis) == "auto")

    @property
    def ranks(self) -> int:
        """The product of the settled axes."""
        return math.prod(self.settled.values())


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


class Architecture(Declared):
    """What the planner must know of a decoder-only transformer to choose a mesh for it.

    `sequence` is the length of a sample in tokens, `batch` the samples of a step over all workers. `axes` are those of a mesh that the
    job's code can run: `data` and `shard` take any module, `tensor` and `pipeline` need a model that names its plan.
    """

    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int | None = Field(default=None, ge=1)
    ffn: int | None = Field(default=None, ge=1)
    vocab: int = Field(ge=1)
    sequence: int = Field(ge=1)
    batch: int = Field(ge=1)
    gated: bool = True
    tied: bool = False
    axes: tuple[Literal["data", "shard", "tensor", "pipeline"], ...] = ("data", "shard")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.hidden % self.heads or (self.kv_heads and self.heads % self.kv_heads):
            raise ValueError("`hidden` must divide by `heads`, and `heads` by `kv_heads`")
        return self


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


class Promote(Declared):
    """When an alias moves to a new version: every comparison must hold. One with an absent production holds."""

    to: Name = "production"
    when: tuple[str, ...] = ()
    approvals: int | tuple[str, ...] = 0

    @field_validator("approvals")
    @classmethod
    def _people(cls, approvals: int | tuple[str, ...]) -> int | tuple[str, ...]:
        if isinstance(approvals, int) and not 0 <= approvals <= 100:
            raise ValueError("write how many people must approve, 0 to 100, or their user names")
        return approvals


class Model(Declared):
    """A model of the registry: the job that trains it and the functions that grade it and answer with it."""

    from_: Name = Field(alias="from")
    evaluate: Entry
    predict: Entry
    promote: Promote = Promote()


class Imported(Declared):
    """A model that was made elsewhere, and enters by the same door: examined, sealed, with its license.

    `from` is `dir://FOLDER`, `hf://ORGANIZATION/NAME[@REVISION]`, `mlflow://MODEL/VERSION?store=sqlite:///FILE` (or a server's URL), or
    `s3://BUCKET/PREFIX`. `files` are patterns of the files to take; none: all.
    """

    from_: str = Field(alias="from", pattern=r"^(dir|hf|mlflow|s3)://\S+$")
    license: str | None = Field(default=None, min_length=1)
    files: tuple[str, ...] = ()


def _model_kind(value: Any) -> str:
    """Which kind of model a declaration is: what is trained here comes from a job, which is no address."""
    fields = value if isinstance(value, dict) else dict(value) if isinstance(value, Declared) else {}
    return MODEL_KINDS["://" in str(fields.get("from", fields.get("from_", "")))]


MODEL_KINDS = ("trained model", "imported model")
AnyModel = Annotated[Annotated[Model, Tag("trained model")] | Annotated[Imported, Tag("imported model")], Discriminator(_model_kind)]


class Endpoint(Declared):
    """An HTTP endpoint on loopback for the model behind an alias (`delay@production`). Port 0 takes a free one and keeps it.

    `store` is where its features lie: `sqlite://` (a file of each replica), `redis://...` or `postgres://...`. A password is named, as
    `${NAME}` of the environment, and never written.
    """

    model: str = Field(pattern=r"^[a-z][a-z0-9_-]*@[a-z][a-z0-9_-]*$")
    port: int = Field(default=0, ge=0, le=65535)
    store: str = "sqlite://"
    unsigned: Literal["refused", "allowed"] = "refused"

    @field_validator("store")
    @classmethod
    def _address(cls, store: str) -> str:
        match = re.fullmatch(r"(sqlite://|(rediss?|postgres|postgresql)://(?:(?P<user>[^@]*)@)?[^@]+)", store)
        if match is None:
            raise ValueError("write sqlite://, redis://host:port/0 or postgres://user:${PASSWORD}@host:port/database")
        _, separator, password = (match["user"] or "").partition(":")
        if separator and not re.fullmatch(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", password):
            raise ValueError(
                "a password is not written down: name a variable of the environment, as in redis://:${REDIS_PASSWORD}@host:6379/0"
            )
        return store


class Trigger(Declared):
    """When `bedplate watch` asks for a launch of `targets` (none: everything), and for what: any one of its conditions is enough.

    `changed` names what makes a step stale: data, code. `drift` maps `dataset.column` to how far it may move, by `measure`, since
    the version that production was trained on. `every` is a duration, `at` a time of day in UTC (`03:30`, `mon 03:30`). Two launches of
    one trigger are at least `pause` apart.
    """

    targets: tuple[str, ...] = ()
    changed: tuple[Literal["data", "code"], ...] = ()
    drift: dict[str, float] = Field(default_factory=dict)
    measure: Literal["psi", "ks"] = "psi"
    every: str | None = None
    at: str | None = None
    mode: Literal["up", "run"] = "up"
    pause: str = "1m"

    @field_validator("changed", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("every", "pause")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                duration_s(value)
        except SpecError as error:
            raise ValueError(error.one_line()) from error
        return value

    @field_validator("at")
    @classmethod
    def _time_of_day(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"((mon|tue|wed|thu|fri|sat|sun) )?([01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError("write a time of day in UTC, for example 03:30 or mon 03:30")
        return value

    @field_validator("drift")
    @classmethod
    def _columns(cls, drift: dict[str, float]) -> dict[str, float]:
        for place, limit in drift.items():
            if not re.fullmatch(_PLACE, place) or limit <= 0:
                raise ValueError(f"write dataset.column: limit, for example flights.dep_delay: 0.2, not {place!r}: {limit}")
        return drift

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if not (self.changed or self.drift or self.every or self.at):
            raise ValueError("give at least one of `changed`, `drift`, `every` and `at`")
        return self


class ProjectSpec(Declared):
    """All that one project declares."""

    project: Name
    datasets: dict[Name, Dataset] = Field(default_factory=dict)
    features: dict[Name, AnyFeature] = Field(default_factory=dict)
    jobs: dict[Name, Job] = Field(default_factory=dict)
    models: dict[Name, AnyModel] = Field(default_factory=dict)
    endpoints: dict[Name, Endpoint] = Field(default_factory=dict)
    watch: dict[Name, Trigger] = Field(default_factory=dict)

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
