"""Reading what was tracked, with a server, after one was killed, or without any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.models.tracking.reading import Reading
from models.tracking.kit import Api


def reading(api: Api) -> Reading:
    return Reading(api.state, api.ledger, "flights")


def test_what_a_live_server_took_is_seen(api: Api) -> None:
    other = api.ok("POST", "experiments/create", name="delays")["experiment_id"]
    runs = [api.run(other, run_name=f"run {number}", start_time=1000 + number) for number in range(3)]
    for number, run in enumerate(runs):
        api.metric(run, "acc", number / 10, step=4)
        api.ok("POST", "runs/log-parameter", run_id=run, key="depth", value=str(number))
    api.ok("POST", "runs/update", run_id=runs[0], status="FINISHED", end_time=3000)
    api.tracking.tend()
    with reading(api) as tracked:
        assert [run.name for run in tracked.find()] == ["run 2", "run 1", "run 0"]
        [best] = tracked.find("metrics.acc < 0.15", ["metrics.acc DESC"], "delays", limit=1)
        assert (best.id, best.metrics, best.params, best.experiment) == (runs[1], {"acc": 0.1}, {"depth": "1"}, "delays")
        first = tracked.get(runs[0])
        assert first is not None
        assert (first.status, first.duration_s, first.kind) == ("FINISHED", 2.0, "logged")
        assert best.duration_s is None
        assert tracked.points(runs[1], "acc") == [(1000, 4, 0.1)]
        assert tracked.find(experiment="none") == []
        assert tracked.experiments() == ["Default", "delays"]


def test_a_run_by_its_id_its_beginning_or_its_name(api: Api) -> None:
    run, newer = api.run(run_name="one", start_time=1), api.run(run_name="one", start_time=2)
    with reading(api) as tracked:
        for name, expected in ((run, run), (run[:10], run), ("one", newer)):
            found = tracked.get(name)
            assert found is not None
            assert found.id == expected
        assert tracked.get("nobody") is None
        assert tracked.get(run[:1]) is None


def test_after_a_kill_the_journal_is_read(tmp_path: Path) -> None:
    api = Api(tmp_path)
    run = api.run(run_name="one")
    for step in range(5):
        api.metric(run, "m", float(step), step)
    os.close(api.tracking.points._lock)  # its process is gone; nothing was folded, nor put into the index
    with reading(api) as tracked:
        found = tracked.get("one")
        assert found is not None
        assert found.metrics == {"m": 4.0}
        assert [step for _, step, _ in tracked.points(run, "m")] == [0, 1, 2, 3, 4]
    again = Api(tmp_path)
    assert len(again.history(run, "m")) == 5
    again.close()


def test_without_any_server_there_is_nothing(tmp_path: Path, api: Api) -> None:
    with Reading(tmp_path / "other", api.ledger, "flights") as tracked:
        assert [run.id for run in tracked.find()] == []
        assert tracked.points("nobody", "m") == []


def test_a_filter_that_cannot_be_read_says_how_one_looks(api: Api) -> None:
    with reading(api) as tracked:
        for text, orders in (("metrics.m <", []), ("", ["nothing DESC"])):
            with pytest.raises(DataError) as error:
                tracked.find(text, orders)
            assert error.value.fix == "for example: metrics.rmse < 1 and params.lr = '0.1'"
