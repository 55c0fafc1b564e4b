"""The project: what a user declares, as frozen pydantic models. The reference page of `bedplate.yaml` is tested against them.

Does not know: YAML or positions (`source`), references between fields (`project`), files, hardware or engines.
"""

from __future__ import annotations

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
    replay of the past is taken at its word.
    """

    source: str = Field(min_length=1)
    key: tuple[Column, ...] = ()
    event_time: Column | None = None
    known_at: Column | None = None
    columns: dict[Column, ColumnType] = Field(default_factory=dict)
    derive: dict[Column, str] = Field(default_factory=dict)
    backfill: Literal["trusted", "untrusted"] = "untrusted"

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
    """How the workers of a job share its model: ranks on each axis. `data` takes what the others leave.

    `schedule` and `micro_batches` are of a pipeline.
    """

    data: int | None = Field(default=None, ge=1)
    shard: int = Field(default=1, ge=1)
    tensor: int = Field(default=1, ge=1)
    pipeline: int = Field(default=1, ge=1)
    context: int = Field(default=1, ge=1)
    schedule: Schedule = "1F1B"
    micro_batches: int | None = Field(default=None, ge=1)

    @property
    def ranks(self) -> int:
        """The product of the axes, `data` counting 1 where it is not given."""
        return (self.data or 1) * self.shard * self.tensor * self.pipeline * self.context


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
            if not re.fullmatch(r"memory|disk|(s3|gs|az|file)://\S+", tier):
                raise ValueError(f"{tier!r} is no tier: use memory, disk or an object store such as s3://bucket/prefix")
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
    """

    function: Entry | None = None
    command: str | None = None
    inputs: AnyInputs | None = None
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
    recovery: Literal["in_place", "fork", "attempt"] = "in_place"
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
            if least % self.mesh.ranks or most % self.mesh.ranks or (self.mesh.data is not None and {least, most} != {self.mesh.ranks}):
                raise ValueError(f"the axes of `mesh` multiply to {self.mesh.ranks}, and `resources` has {least} workers")
        return self


class Promote(Declared):
    """When an alias moves to a new version: every comparison must hold. One with an absent production holds."""

    to: Name = "production"
    when: tuple[str, ...] = ()


class Model(Declared):
    """A model of the registry: the job that trains it and the functions that grade it and answer with it."""

    from_: Name = Field(alias="from")
    evaluate: Entry
    predict: Entry
    promote: Promote = Promote()


class Endpoint(Declared):
    """An HTTP endpoint on loopback for the model behind an alias (`delay@production`). Port 0 takes a free one and keeps it.

    `store` is where its features lie: `sqlite://` (a file of each replica), `redis://...` or `postgres://...`. A password is named, as
    `${NAME}` of the environment, and never written.
    """

    model: str = Field(pattern=r"^[a-z][a-z0-9_-]*@[a-z][a-z0-9_-]*$")
    port: int = Field(default=0, ge=0, le=65535)
    store: str = "sqlite://"

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


class ProjectSpec(Declared):
    """All that one project declares."""

    project: Name
    datasets: dict[Name, Dataset] = Field(default_factory=dict)
    features: dict[Name, AnyFeature] = Field(default_factory=dict)
    jobs: dict[Name, Job] = Field(default_factory=dict)
    models: dict[Name, Model] = Field(default_factory=dict)
    endpoints: dict[Name, Endpoint] = Field(default_factory=dict)

    def stored(self, names: Iterable[str]) -> dict[str, Feature]:
        """Those of the named features that are kept as views of a dataset."""
        declared = {name: self.features[name] for name in names}
        return {name: feature for name, feature in declared.items() if isinstance(feature, Feature)}

    def on_demand(self, names: Iterable[str]) -> dict[str, OnDemand]:
        """Those of the named features that are computed for each row when it is asked for."""
        declared = {name: self.features[name] for name in names}
        return {name: feature for name, feature in declared.items() if isinstance(feature, OnDemand)}
