"""The index: a fold of the ledger that can be made again, in one go or event by event."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.clock import SystemClock
from bedplate.core.event import Draft
from bedplate.core.ledger import Ledger
from bedplate.models.tracking import drafts
from bedplate.models.tracking.index import Index, own_experiment

RUN = "a" * 32
EVENTS = [
    drafts.experiment_created("5", "five", at_ms=1, tags={"a": "b"}),
    drafts.run_logged(RUN, "5", "five", name="one", user="u", start_ms=10, tags={"x": "y", "z": "w"}),
    drafts.run_changed(RUN, params={"lr": "1"}, tags={"z": None, "n": "m"}, metrics=drafts.latest({"m": (2.5, 7, 3)})),
    drafts.run_changed(RUN, params={"lr": "2"}, metrics=drafts.latest({"m": (9.0, 9, 2), "bad": (float("nan"), 1, 1)})),
    drafts.run_changed(RUN, status="FINISHED", end_ms=20, models_out=[["m-1", 0]]),
    drafts.experiment_changed("5", at_ms=2, name="FIVE", tags={"a": None, "c": "d"}),
    Draft("run.created", "train-1", {"step": "train", "kind": "train", "launch": "l", "fingerprint": "f"}),
    Draft("run.created", "ingest-1", {"step": "raw", "kind": "ingest", "launch": "l", "fingerprint": "f"}),
    Draft("attempt.started", "train-1", {"token": 1, "engine": "local", "folder": "x", "handle": {}}),
    Draft("run.finished", "train-1", {"status": "stopped", "metrics": {"loss": 0.5, "odd": "nan"}, "params": {"n": 1}}),
    drafts.model_changed("delay", at_ms=3, description="d", tags={"a": "b"}),
    drafts.alias_moved("delay", "champion", 1, {"by": "ada", "promoted": True, "why": "because"}),
]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db", "flights", SystemClock())


def dump(index: Index) -> dict[str, list[tuple[object, ...]]]:
    tables = ("experiments", "runs", "params", "tags", "metrics", "datasets", "run_models", "documents")
    return {name: sorted(index.database.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in tables}


def test_event_by_event_and_at_once_are_the_same(tmp_path: Path, ledger: Ledger) -> None:
    slowly = Index(tmp_path / "slowly.db", "flights")
    for event in EVENTS:
        ledger.append([event])
        assert len(slowly.catch_up(ledger)) == 1
        assert slowly.catch_up(ledger) == []
    at_once = Index(tmp_path / "at_once.db", "flights")
    assert len(at_once.catch_up(ledger)) == len(EVENTS)
    assert dump(slowly) == dump(at_once)
    assert slowly.seq == len(EVENTS)
    for each in (slowly, at_once):
        each.close()
    ledger.close()


def test_what_is_folded(tmp_path: Path, ledger: Ledger) -> None:
    ledger.append(EVENTS)
    index = Index(tmp_path / "index.db", "flights")
    index.catch_up(ledger)
    told = dump(index)
    number = index.number(RUN)
    assert {row[1:3] for row in told["experiments"]} == {("flights/train", "mlflow-artifacts:/runs"), ("FIVE", "mlflow-artifacts:/5")}
    assert ("lr", number, "1") in told["params"], "a param never changes"
    assert {row[0] for row in told["tags"] if row[1] == number} == {"x", "n", "mlflow.runName"}
    assert {row[0]: row[2:] for row in told["metrics"] if row[1] == number} == {"m": (2.5, 7, 3), "bad": (None, 1, 1)}
    own = index.database.execute("SELECT status, kind, experiment FROM runs WHERE id = 'train-1'").fetchone()
    assert own == ("KILLED", "train", own_experiment("flights", "train"))
    assert index.number("ingest-1") is None, "data is no experiment"
    assert index.document("model", "delay") == {
        "name": "delay",
        "description": "d",
        "tags": {"a": "b"},
        "aliases": {"champion": 1},
        "created_ms": 3,
        "updated_ms": 3,
    }
    index.close()
    ledger.close()


def test_another_chain_is_folded_from_its_beginning(tmp_path: Path, ledger: Ledger) -> None:
    ledger.append(EVENTS)
    index = Index(tmp_path / "index.db", "flights")
    index.catch_up(ledger)
    ledger.close()
    other = Ledger(tmp_path / "other.db", "flights", SystemClock())
    other.append([drafts.experiment_created("7", "seven", at_ms=1)] * 1 + EVENTS[1:2] + [Draft("step.accepted", "x", {})] * 11)
    index.rebuilt = False
    index.catch_up(other)
    assert index.rebuilt
    assert [row[0] for row in dump(index)["experiments"]] == ["7"]
    index.close()
    other.close()


def test_an_index_of_another_version_is_made_anew(tmp_path: Path, ledger: Ledger) -> None:
    ledger.append(EVENTS)
    index = Index(tmp_path / "index.db", "flights")
    index.catch_up(ledger)
    index.database.execute("UPDATE meta SET value = '0' WHERE name = 'schema'")
    index.close()
    again = Index(tmp_path / "index.db", "flights")
    assert again.rebuilt
    assert len(again.catch_up(ledger)) == len(EVENTS)
    again.close()
    ledger.close()


def test_two_processes_share_the_file(tmp_path: Path, ledger: Ledger) -> None:
    first, second = (Index(tmp_path / "index.db", "flights") for _ in range(2))
    for event in EVENTS:
        ledger.append([event])
        first.catch_up(ledger)
        second.catch_up(ledger)
    assert dump(first) == dump(second)
    first.close()
    second.close()
    ledger.close()


def test_an_erased_payload_says_nothing(tmp_path: Path, ledger: Ledger) -> None:
    ledger.append(EVENTS)
    ledger.erase(2, "asked for")
    index = Index(tmp_path / "index.db", "flights")
    index.catch_up(ledger)
    assert index.number(RUN) is None
    index.close()
    ledger.close()


def test_a_job_s_experiment_is_the_same_everywhere() -> None:
    assert own_experiment("flights", "train") == own_experiment("flights", "train") != own_experiment("flights", "test")
    assert len(own_experiment("flights", "train")) == 18
    assert own_experiment("flights", "train").isdigit()
