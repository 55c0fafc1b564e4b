"""Skew: what an endpoint served, beside what training would have computed for the same row as of the same time.

Each answer is joined anew, offline, from the newest tables: its key finds the spine's row, what its request brought takes that row's
place, and every feature is computed as of the time that the answer was made for. A difference is an event that came to its table before
the answer's time but to the online store after it, or a definition that changed since.
Does not know: how an answer was made (`lookup`), or how a join is done (`data.join`).
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from bedplate.core.errors import NotFound, nearest
from bedplate.core.spec import Inputs, ProjectSpec
from bedplate.data.cut import read_cut
from bedplate.data.features import View, materialize
from bedplate.data.join import join
from bedplate.data.keys import KNOWN_AT, OFFSET, PARTITION, column_type, text, texts
from bedplate.data.lake import Lake
from bedplate.data.on_demand import OnDemandView, apply
from bedplate.data.online.keys import microseconds_of
from bedplate.data.online.store import Value, model_value
from bedplate.flow.answers import answers_table
from bedplate.flow.lakes import lake_of
from bedplate.flow.lookup import typed
from bedplate.flow.steps.functions import on_demand_views
from bedplate.flow.workspace import Workspace

EXAMPLES = 3
SYSTEM = (KNOWN_AT, PARTITION, OFFSET, "_arrived_at")
TOLERANCE = 1e-9  # relative; sums and counts are exact, means and what decays are floats


@dataclass(frozen=True)
class Example:
    """One difference: the answer's id, what was served and what training would have had."""

    answer: str
    served: float | str | None
    trained: float | str | None


@dataclass
class Compared:
    """A feature or column over all answers. `max_difference` is the greatest absolute one between numbers."""

    compared: int = 0
    equal: int = 0
    max_difference: float = 0.0
    examples: list[Example] = field(default_factory=list)

    def add(self, answer: str, served: float | str | None, trained: float | str | None) -> None:
        """Compare one pair."""
        self.compared += 1
        if same(served, trained):
            self.equal += 1
            return
        if isinstance(served, float | int) and isinstance(trained, float | int):
            self.max_difference = max(self.max_difference, abs(served - trained))
        if len(self.examples) < EXAMPLES:
            self.examples.append(Example(answer, served, trained))


@dataclass(frozen=True)
class Skew:
    """What was compared: `answers` of them; `left_out` have no row or time any more to compare with."""

    endpoint: str
    answers: int
    left_out: int
    features: Mapping[str, Compared]

    @property
    def equal(self) -> bool:
        """Whether all that was compared is equal."""
        return all(each.compared == each.equal for each in self.features.values())

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {**asdict(self), "equal": self.equal}


def skew(workspace: Workspace, endpoint: str, last: int) -> Skew:
    """Compare the `last` answers of an endpoint. Raises NotFound for an unknown endpoint, or one that has answered nothing yet."""
    spec = workspace.project.spec
    if endpoint not in spec.endpoints:
        raise NotFound("no such endpoint", value=endpoint, fix=nearest(endpoint, spec.endpoints))
    inputs = spec.jobs[spec.trained[spec.endpoints[endpoint].model.partition("@")[0]].from_].inputs
    assert isinstance(inputs, Inputs), "an endpoint serves a model of rows"
    lake = lake_of(workspace)
    if str(workspace.project.root) not in sys.path:
        sys.path.insert(0, str(workspace.project.root))  # on-demand features are functions of the project's own
    answers = _answers(lake, endpoint, last)
    with tempfile.TemporaryDirectory(prefix="bedplate-skew-") as folder:
        return _compared(endpoint, answers, _Tables(lake, spec), inputs, Path(folder))


def same(served: float | str | None, trained: float | str | None) -> bool:
    """Whether a served value is the trained one: numbers within the tolerance, null as NaN."""
    if isinstance(served, float | int) and isinstance(trained, float | int):
        return math.isclose(served, trained, rel_tol=TOLERANCE)
    return served == trained


class _Tables:
    """The newest rows of a project's datasets."""

    def __init__(self, lake: Lake, spec: ProjectSpec) -> None:
        self._lake = lake
        self.spec = spec

    def rows(self, name: str) -> pa.Table:
        table = self._lake.table(name)
        if table is None:
            raise NotFound("the dataset has no table yet", value=name, fix=f"bedplate run {name}")
        return read_cut(self._lake, name, table.version, self.spec.datasets[name])

    def views(self, names: Sequence[str], folder: Path) -> list[View]:
        features = self.spec.stored(names)
        tables = {source: self.rows(source) for source in dict.fromkeys(each.from_ for each in features.values())}
        return [
            materialize(name, each, self.spec.datasets[each.from_], tables[each.from_], folder / name) for name, each in features.items()
        ]

    def computed(self, names: Sequence[str]) -> Iterable[OnDemandView]:
        """The on-demand features, with the functions of the project as it is now."""
        declared = {name: each.model_dump(mode="json") for name, each in self.spec.on_demand(names).items()}
        return on_demand_views({"on_demand": declared}).values()


def _answers(lake: Lake, endpoint: str, last: int) -> list[Mapping[str, Any]]:
    name = answers_table(endpoint)
    table = lake.table(name)
    if table is None or not table.rows:
        raise NotFound("the endpoint has answered nothing yet", value=endpoint, fix="ask it something: bedplate ask")
    rows = lake.read(name, columns=["id", "at", "as_of", "request", "features"]).sort_by("at")
    return list(rows.slice(max(0, rows.num_rows - last)).to_pylist())


def _compared(endpoint: str, answers: Sequence[Mapping[str, Any]], tables: _Tables, inputs: Inputs, folder: Path) -> Skew:
    spine = tables.rows(inputs.spine)
    key = tables.spec.datasets[inputs.spine].key
    asked = list(_asked(answers, spine, key))
    columns: list[Any] = [*inputs.columns]
    joined = pa.Table.from_pylist([row for _, row in asked], spine.schema)
    for view in tables.views(inputs.features, folder):
        joined = join(joined, KNOWN_AT, [view], key)
        columns += [name for name, _ in view.columns]
    for computed in tables.computed(inputs.features):
        arrays = {name: joined.column(name).combine_chunks() for name in computed.inputs}
        for name, values in apply(computed, arrays).items():
            joined = joined.append_column(name, values)
            columns.append(name)
    compared = {name: Compared() for name in columns}
    for (answer, _), row in zip(asked, joined.select(columns).to_pylist(), strict=True):
        served = json.loads(answer["features"])
        for name in columns:
            if name in served:
                compared[name].add(answer["id"], served[name], _served(row[name]))
    return Skew(endpoint, len(asked), len(answers) - len(asked), compared)


def _asked(answers: Sequence[Mapping[str, Any]], spine: pa.Table, key: Sequence[str]) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    """Each answer with the spine's row that it was for, as of its time."""
    kinds = {each.name: column_type(each.type, each.name) for each in spine.schema if each.name not in SYSTEM}
    places: dict[str, list[int]] = {}
    for place, each in enumerate(texts(spine.select(list(key))).to_pylist()):
        places.setdefault(str(each), []).append(place)
    known = spine.column(KNOWN_AT).to_pylist()
    for answer in answers:
        if answer["as_of"] is None:
            continue
        request = {name: typed(value, kinds[name]) for name, value in json.loads(answer["request"]).items() if name in kinds}
        values = [request.get(name) for name in key]
        asked = text([microseconds_of(value) if isinstance(value, datetime) else value for value in values])
        found = [place for place in places.get(asked, ()) if known[place] is not None and known[place] <= answer["as_of"]]
        stored = spine.slice(max((known[place], place) for place in found)[1], 1).to_pylist()[0] if found else {}
        brought = {name: value for name, value in request.items() if value is not None}
        if stored or set(request) > set(key):
            yield answer, {**stored, **brought, KNOWN_AT: answer["as_of"]}


def _served(value: Value) -> float | str | None:
    """A joined value as an answer remembers it: what is no number is null."""
    plain = model_value(value)
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
