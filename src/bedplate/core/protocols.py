"""The small protocols in which rooms meet: a launcher, a stream, a feed.

Each has one conformance suite in the tests that runs against every implementation.
Does not know: any implementation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bedplate.core.attempt import Attempt

if TYPE_CHECKING:
    import numpy

Liveness = Literal["alive", "gone", "unknown"]


@dataclass(frozen=True)
class Rendered:
    """What a launcher would start, with nothing started: the command line and the environment that it adds."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str


class Launcher(Protocol):
    """Somebody else's machinery for starting processes, behind five verbs. A handle is JSON and survives a restart of the loop."""

    name: str

    def render(self, attempt: Attempt) -> Rendered:
        """What `submit` would start. Pure."""

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        """Start the attempt's shim in a session of its own and return the handle. The attempt file is written before."""

    def poll(self, handle: Mapping[str, Any]) -> Liveness:
        """`gone` only when it is proved that nothing of the attempt runs; `unknown` when nothing can be learned now."""

    def logs(self, attempt: Attempt, rank: int) -> Iterator[str]:
        """The lines that a rank printed so far, in order."""

    def cancel(self, handle: Mapping[str, Any], how: Literal["stop", "cancel"]) -> None:
        """`stop` sends the notice on which a worker writes a checkpoint and ends; `cancel` ends the tree. Harmless when gone."""


@dataclass(frozen=True)
class StreamRecord:
    """One record: its place, when it arrived (seconds since the epoch), its bytes."""

    partition: int
    offset: int
    arrived_at_s: float
    value: bytes


class Stream(Protocol):
    """A partitioned stream, as it is read. `identity` changes when the stream is made anew.

    Offsets rise within a partition; some may belong to no record (a compacted topic, the marks of transactions).
    """

    identity: str

    def begin_offsets(self) -> dict[int, int]:
        """For each partition the offset of the oldest record that is still there; where there is none, the next one's."""

    def end_offsets(self) -> dict[int, int]:
        """For each partition the offset of the next record."""

    def read(self, partition: int, offset: int, limit: int) -> Sequence[StreamRecord]:
        """At most `limit` records from `offset` on; fewer at the end."""


class WritableStream(Stream, Protocol):
    """A stream that producers append to, each record once."""

    def append(self, values: Sequence[bytes], *, producer: str, sequence: int) -> int:
        """Append records that `producer` numbers from `sequence` on, durably; returns how many of them were new."""

    def next_sequence(self, producer: str) -> int:
        """The number of the next record of `producer`: how a restarted producer knows where to go on."""


@dataclass(frozen=True)
class FeedSchema:
    """What a row has: numeric columns, categorical columns, the label's name ("" for none).

    `kind` is "table", or "tokens" or "images" for samples that are no columns; `facts` are what is known of those (sequence length,
    size of the vocabulary, height and width, classes).
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    label: str
    kind: str = "table"
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FeedBatch:
    """Rows of one rank. `position` is the global number of samples of the epoch that are behind after this batch.

    `columns` of a table holds numeric columns and the label as float64 (NaN: null), categorical ones as int32 codes (-1: null), each of
    shape [rows]; of tokens "tokens", int64 [rows, sequence + 1]; of images "images", uint8 [rows, 3, height, width], and the label by its
    name: int64 codes of classes, or float32 numbers.
    """

    epoch: int
    position: int
    columns: Mapping[str, numpy.ndarray]


class Feed(Protocol):
    """Training data as arrays: the same rows in the same order for a seed, at any world size."""

    schema: FeedSchema

    def rows(self, split: str) -> int:
        """How many labelled rows a split ("train", "valid" or "test") has."""

    def columns(self, split: str) -> Mapping[str, numpy.ndarray]:
        """All columns of a split, whole, dtypes as in `FeedBatch`."""

    def dictionary(self, column: str) -> Sequence[str]:
        """The strings that the codes of a categorical column stand for."""

    @property
    def tokenizer(self) -> str | None:
        """The JSON of the tokenizer that made the tokens; None where there are none."""

    def counters(self) -> Mapping[str, float]:
        """What was read since the start: `bytes_read`, `read_s` and, where there is a cache, what it did."""

    def in_order(self, split: str, batch_size: int) -> Iterator[Mapping[str, numpy.ndarray]]:
        """A split as it lies, whole, at most `batch_size` rows at a time."""

    def batches(
        self, split: str, *, batch_size: int, rank: int, world_size: int, epoch: int, seed: int, start: int = 0
    ) -> Iterator[FeedBatch]:
        """The batches of one epoch for one rank, from global sample `start` on.

        `batch_size` counts samples over all ranks and must be divisible by `world_size`; a rest smaller than a batch is left out.
        """
