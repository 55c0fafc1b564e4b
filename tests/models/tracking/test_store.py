"""The store: grouped commits, and an index that can be lost."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bedplate.core.errors import Busy, LedgerError
from bedplate.models.tracking import drafts
from bedplate.models.tracking.points import SEGMENT_BYTES
from bedplate.models.tracking.refusal import Refused
from bedplate.models.tracking.store import Tracking, now_ms
from models.tracking.kit import Api


def log_some(api: Api) -> str:
    run = api.run(run_name="kept")
    api.ok("POST", "runs/log-parameter", run_id=run, key="lr", value="1")
    for step, value in enumerate((3.0, 2.0, "NaN", 1.0)):
        api.metric(run, "loss", value, step)
    api.metric(run, "last", "NaN", 9)
    return run


def described(api: Api, run: str) -> str:
    return repr(api.ok("GET", "runs/get", run_id=run)["run"]) + repr(api.history(run, "loss"))


def test_the_same_after_a_restart_and_without_the_index(tmp_path: Path) -> None:
    api = Api(tmp_path)
    run = log_some(api)
    before = described(api, run)
    api.close()
    api = Api(tmp_path)
    assert described(api, run) == before
    api.close()
    for path in (tmp_path / "tracking").glob("index.db*"):
        path.unlink()
    api = Api(tmp_path)
    assert described(api, run) == before
    api.close()


def test_what_is_staged_is_in_the_ledger_after_a_commit_in_one_transaction(api: Api) -> None:
    before = api.ledger.head().seq
    for name in "ab":
        api.tracking.stage(drafts.experiment_created(f"1{ord(name)}", name, at_ms=now_ms()))
    assert api.ledger.head().seq == before
    api.tracking.settle("nothing of theirs")
    assert api.ledger.head().seq == before
    api.tracking.settle(f"1{ord('a')}")
    assert api.ledger.head().seq == before + 2


def test_what_others_append_is_seen(api: Api) -> None:
    api.append(drafts.run_logged("r" * 32, "0", "Default", name="theirs", user="u", start_ms=5))
    api.tracking.require_active("r" * 32)
    api.metric("r" * 32, "m", 1.0)
    api.append(drafts.run_changed("r" * 32, lifecycle="deleted"))
    api.tracking.tend()
    with pytest.raises(Refused, match="must be in the 'active' state"):
        api.tracking.require_active("r" * 32)


def test_a_second_server_is_refused(api: Api) -> None:
    with pytest.raises(Busy):
        Tracking(api.state, api.ledger, "flights", api.key)


def test_a_ledger_that_cannot_be_written_acknowledges_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    run = api.run()

    def full(*_: object) -> None:
        raise LedgerError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(api.ledger, "append", full)
        api.tracking.stage(drafts.run_changed(run, tags={"a": "b"}))
        with pytest.raises(LedgerError):
            api.tracking.commit()
    tags = api.ok("GET", "runs/get", run_id=run)["run"]["data"]["tags"]
    assert "a" not in {tag["key"] for tag in tags}
    api.ok("POST", "runs/set-tag", run_id=run, key="a", value="c")


def test_a_full_segment_is_folded_in_the_background(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    run = api.run()
    monkeypatch.setattr("bedplate.models.tracking.points.SEGMENT_BYTES", 1000)
    assert SEGMENT_BYTES > 1000
    for step in range(100):
        api.metric(run, "m", float(step), step)
    api.tracking.tend()
    assert api.tracking._folder is not None
    api.tracking._folder.join(20)
    assert len(list((api.state / "series" / "_shared").glob("*.parquet"))) == 1
    assert [step for _, step, _ in api.history(run, "m")] == list(range(100))
    api.metric(run, "m", math.inf, 100)
    assert len(api.history(run, "m")) == 101
