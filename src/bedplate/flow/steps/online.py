"""The online step: the online store of an endpoint, from the same cuts that training read.

Where nothing but new rows came since the store before, those are applied to it (to a copy, where it is a file); else it is made anew.
Does not know: how a value is looked up (`data.online`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bedplate.core.atomic import write_json
from bedplate.core.attempt import Attempt
from bedplate.core.clock import SystemClock
from bedplate.core.digest import digest
from bedplate.core.errors import NotFound
from bedplate.core.spec import Dataset, Feature
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.ingest import read_cut
from bedplate.data.online.build import build, build_below, drop
from bedplate.data.online.contents import FORMAT
from bedplate.data.online.open import open_engine
from bedplate.data.online.store import OnlineStore
from bedplate.data.target import epoch_of
from bedplate.flow.lakes import lake_of
from bedplate.flow.online import EMBEDDED, FILE, PLACE, Place, base_file, copy_file, open_store, read_base
from bedplate.flow.steps.context import StepContext

STORES_KEPT = 2  # in a database: the newest, and the one before, which a replica may still read


def work(attempt: Attempt) -> int:
    """Make the store, in the attempt's folder or in the endpoint's database. Returns 0."""
    step = StepContext(attempt)
    made = _Store(step)
    base = read_base(step.state, attempt.step)
    location = made.advanced(base) or made.anew(base)
    cuts = {name: step.version(name).digest for name in made.datasets}
    meta = {"features": list(made.features), "epochs": made.epochs}
    step.output(attempt.step, "online", digest([made.definition, cuts]), location, **meta)
    return 0


class _Store:
    """The store that a step makes."""

    def __init__(self, step: StepContext) -> None:
        spec = step.attempt.spec
        self._step = step
        self._lake = lake_of(step)
        self._address: str = spec["store"]
        self.features = {name: Feature.model_validate(values) for name, values in spec["features"].items()}
        self.datasets = {name: Dataset.model_validate(values) for name, values in spec["datasets"].items()}
        self.definition = digest([FORMAT, spec["features"], spec["datasets"], self._address])
        self.epochs = {name: self._epoch(name) for name in self.datasets}

    def anew(self, base: Mapping[str, Any]) -> Path:
        """Make it from whole cuts; returns where it is."""
        attempt = self._step.attempt
        tables = {name: (dataset, self._rows(name, {})) for name, dataset in self.datasets.items()}
        progress = self._step.progress("entities")
        if self._address == EMBEDDED:
            location = attempt.out / FILE
            build(location, self.features, tables, progress, _now_us())
            self._remember(location, [])
            return location
        place = Place(self._address, f"bedplate:{attempt.step}:{attempt.run}:{attempt.token}:")
        engine = open_engine(self._address)
        try:
            build_below(engine, place.namespace, self.features, tables, progress, _now_us())
            kept = [*base.get("namespaces", ()), place.namespace] if base.get("address") == self._address else [place.namespace]
            for old in kept[:-STORES_KEPT]:
                drop(engine, old)
        finally:
            engine.close()
        return self._placed(place, kept[-STORES_KEPT:])

    def advanced(self, base: Mapping[str, Any]) -> Path | None:
        """Apply to the store before what it does not have yet; None when it is not there, or not of the same definition and tables."""
        if base.get("definition") != self.definition or base.get("epochs") != self.epochs:
            return None
        before: Path = self._step.state / base["location"]
        if not before.is_file():
            return None
        location = before
        if self._address == EMBEDDED:
            location = self._step.attempt.out / FILE
            copy_file(before, location)
        try:
            store = OnlineStore(SqliteEngine(location)) if self._address == EMBEDDED else open_store(before)
        except NotFound:
            return None  # the database lost it
        try:
            self._apply(store)
        finally:
            store.close()
        if self._address == EMBEDDED:
            self._remember(location, [])
            return location
        return self._placed(Place.read(before), base["namespaces"])

    def _apply(self, store: OnlineStore) -> None:
        applied = store.applied()
        progress = self._step.progress("entities")
        for done, name in enumerate(self.datasets):
            progress(done, len(self.datasets))
            store.apply(name, self._rows(name, applied[name].offsets), _now_us())
        progress(len(self.datasets), len(self.datasets))

    def _placed(self, place: Place, namespaces: list[str]) -> Path:
        location = self._step.attempt.out / PLACE
        place.write(location)
        self._remember(location, namespaces)
        return location

    def _remember(self, location: Path, namespaces: list[str]) -> None:
        values = {"definition": self.definition, "epochs": self.epochs, "address": self._address, "namespaces": namespaces}
        path = base_file(self._step.state, self._step.attempt.step)
        write_json(path, {**values, "location": str(location.relative_to(self._step.state))})

    def _rows(self, name: str, since: Mapping[int, int]) -> pa.Table:
        return read_cut(self._lake, name, self._step.version(name).meta["table_version"], self.datasets[name], since)

    def _epoch(self, name: str) -> int:
        table = self._lake.table(name, self._step.version(name).meta["table_version"])
        assert table is not None, "the cut was just ingested"
        return epoch_of(table)


def _now_us() -> int:
    return round(SystemClock().now() * 1e6)
