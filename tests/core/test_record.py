"""Records: what events add up to, whatever order they are read in pieces."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import NotFound
from bedplate.core.event import Event
from bedplate.core.record import Records, fold
from bedplate.core.versions import Version


def events(*told: tuple[str, str, dict[str, Any]], erased: int | None = None) -> list[Event]:
    """Events a second apart; the payload of number `erased` is gone."""
    made = []
    for seq, (kind, subject, payload) in enumerate(told, start=1):
        gone = seq == erased
        made.append(Event(seq, float(seq), kind, 1, subject, None, {} if gone else payload, "", gone))
    return made


def created(step: str = "fit", kind: str = "train", **payload: Any) -> dict[str, Any]:
    return {"step": step, "kind": kind, "launch": "up-1", "fingerprint": "f", "max_restarts": 1, **payload}


def started(token: int) -> dict[str, Any]:
    return {"token": token, "engine": "local", "folder": f"runs/x/{token}", "handle": {"pid": token}}


def version(name: str, number: int, digest: str = "d") -> dict[str, Any]:
    return {"version": Version(name, number, "model", f"{digest}{number}", "x", f"{name}-1", 1.0).to_json()}


REQUESTED = ("launch.requested", "up-1", {"mode": "up", "targets": ["fit"], "force": [], "spec": {"project": "x"}})
LIFE = (
    REQUESTED,
    ("run.created", "fit-1", created()),
    ("attempt.started", "fit-1", started(1)),
    ("checkpoint.committed", "fit-1", {"token": 1, "step": 5}),
    ("attempt.ended", "fit-1", {"token": 1, "status": "failed", "failure": "worker_lost", "message": "gone"}),
    ("attempt.started", "fit-1", started(2)),
    ("attempt.ended", "fit-1", {"token": 2, "status": "succeeded", "failure": None, "message": ""}),
    ("version.created", "price@1", version("price", 1)),
    (
        "run.finished",
        "fit-1",
        {"status": "succeeded", "outputs": ["price@1"], "metrics": {"loss": 0.5}, "params": {"lr": 0.1}, "tags": {"note": "x"}},
    ),
    ("launch.finished", "up-1", {"status": "done", "message": ""}),
)


def test_the_life_of_a_run() -> None:
    records = fold(events(*LIFE))
    run = records.runs["fit-1"]
    assert (run.status, run.ended, run.outputs, run.duration_s) == ("succeeded", True, ("price@1",), 7.0)
    assert (run.metrics, run.params, run.tags) == ({"loss": 0.5}, {"lr": 0.1}, {"note": "x"})
    told = [(attempt.token, attempt.status, attempt.failure, attempt.started_at_s, attempt.ended_at_s) for attempt in run.attempts]
    assert told == [(1, "failed", "worker_lost", 3.0, 5.0), (2, "succeeded", None, 6.0, 7.0)]
    launch = records.launches["up-1"]
    assert (launch.status, launch.targets, launch.requested_at_s, launch.finished_at_s) == ("done", ("fit",), 1.0, 10.0)
    assert records.version("price@1").digest == "d1"
    assert (records.live(), records.open_launches(), records.seq) == ([], [], 10)


def test_while_it_lasts_it_is_live_and_its_launch_open() -> None:
    records = fold(events(*LIFE[:6]))
    assert [run.id for run in records.live()] == ["fit-1"]
    assert [launch.id for launch in records.open_launches()] == ["up-1"]
    run = records.runs["fit-1"]
    assert (run.status, run.state.token, run.state.restarts, run.duration_s) == ("running", 2, 1, None)
    assert run.attempts[-1].ended_at_s is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 10), max_size=4))
def test_folding_in_pieces_gives_what_folding_at_once_does(cuts: list[int]) -> None:
    whole, pieces = fold(events(*LIFE)), Records()
    places = [0, *sorted(cuts), 10]
    for start, end in pairwise(places):
        for event in events(*LIFE)[start:end]:
            pieces.apply(event)
    assert pieces == whole


ENDPOINT = (
    ("run.created", "api-1", created("api", "endpoint")),
    ("attempt.started", "api-1", started(1)),
    ("endpoint.ready", "api-1", {"token": 1, "port": 8001}),
)


def test_an_endpoint_is_ready_when_its_current_attempt_answers() -> None:
    assert fold(events(*ENDPOINT[:2])).runs["api-1"].status == "running"
    run = fold(events(*ENDPOINT)).runs["api-1"]
    assert (run.status, run.port) == ("ready", 8001)


def test_an_endpoint_whose_attempt_was_lost_is_not_ready_until_the_next_one_answers() -> None:
    lost = ("attempt.ended", "api-1", {"token": 1, "status": "failed", "failure": "worker_lost"})
    again = ("attempt.started", "api-1", started(2))
    assert fold(events(*ENDPOINT, lost)).runs["api-1"].status == "running"
    assert fold(events(*ENDPOINT, lost, again)).runs["api-1"].status == "running"
    old = ("endpoint.ready", "api-1", {"token": 1, "port": 9999})
    assert fold(events(*ENDPOINT, lost, again, old)).runs["api-1"].port == 8001, "what an older attempt says counts for nothing"
    run = fold(events(*ENDPOINT, lost, again, ("endpoint.ready", "api-1", {"token": 2, "port": 8002}))).runs["api-1"]
    assert (run.status, run.port) == ("ready", 8002)


def test_a_stopped_endpoint_is_not_ready_though_its_port_is_known() -> None:
    stop = ("stop.requested", "api-1", {"how": "stop"})
    ended = ("attempt.ended", "api-1", {"token": 1, "status": "stopped"})
    run = fold(events(*ENDPOINT, stop, ended, ("run.finished", "api-1", {"status": "stopped"}))).runs["api-1"]
    assert (run.status, run.ended, run.port) == ("stopped", True, 8001)


def test_versions_are_found_by_number_alias_and_name() -> None:
    move = ("alias.moved", "price", {"alias": "production", "version": 1, "decision": {"by": "gate"}})
    records = fold(events(("version.created", "price@1", version("price", 1)), ("version.created", "price@2", version("price", 2)), move))
    assert [records.version(ref).number for ref in ("price@1", "price@2", "price@production", "price")] == [1, 2, 1, 2]
    assert records.same_content("price", "d2") == records.version("price@2")
    assert records.same_content("price", "other") is None
    for ref in ("price@3", "price@0", "price@staging"):
        with pytest.raises(NotFound, match="price has versions 1 to 2"):
            records.version(ref)
    with pytest.raises(NotFound, match="did you mean 'price'"):
        records.version("prices@1")


def test_an_alias_is_where_it_moved_last_and_keeps_its_way() -> None:
    moves = [("alias.moved", "price", {"alias": "production", "version": n, "decision": {"why": str(n)}}) for n in (1, 2, 1)]
    records = fold(events(*moves))
    assert records.alias("price", "production") == 1
    assert [(move.version, move.at_s) for move in records.aliases[("price", "production")]] == [(1, 1.0), (2, 2.0), (1, 3.0)]
    assert records.alias("price", "staging") is None


def test_runs_are_found_by_id_and_by_step() -> None:
    records = fold(
        events(
            ("run.created", "fit-1", created()),
            ("run.finished", "fit-1", {"status": "failed", "failure": "user_error", "message": "no"}),
            ("run.created", "fit-2", created()),
        )
    )
    assert (records.run("fit-1").message, records.run("fit").id) == ("no", "fit-2")
    assert [run.id for run in records.of_step("fit")] == ["fit-1", "fit-2"]
    assert [run.id for run in records.of_step("fit", "failed")] == ["fit-1"]
    with pytest.raises(NotFound, match="did you mean"):
        records.run("fit-3")


def test_evaluations_and_accepted_steps_are_the_newest() -> None:
    records = fold(
        events(
            ("evaluation.recorded", "price", {"metrics": {"rmse": 2.0}}),
            ("evaluation.recorded", "price", {"metrics": {"rmse": 1.0}}),
            ("step.accepted", "sums", {"fingerprint": "a"}),
            ("step.accepted", "sums", {"fingerprint": "b"}),
        )
    )
    assert (records.evaluations["price"]["metrics"], records.accepted) == ({"rmse": 1.0}, {"sums": "b"})


def test_an_erased_event_keeps_its_place_and_says_nothing() -> None:
    records = fold(events(*LIFE, erased=1))
    assert (records.seq, records.runs["fit-1"].status) == (10, "succeeded")
    assert records.launches == {}


def test_a_version_keeps_its_number_when_the_event_of_an_older_one_was_erased() -> None:
    made = [("version.created", f"price@{number}", version("price", number)) for number in (1, 2)]
    records = fold(events(*made, erased=1))
    assert records.version("price@2").number == records.version("price").number == 2
    with pytest.raises(NotFound):
        records.version("price@1")


def test_a_stop_of_what_is_no_run_is_harmless() -> None:
    assert fold(events(("stop.requested", "server", {"how": "stop"}))).runs == {}


def test_a_record_is_shown_as_json_and_in_a_notebook() -> None:
    run = fold(events(*LIFE)).runs["fit-1"]
    shown = run.to_json()
    assert (shown["id"], shown["duration_s"], shown["created_at"]) == ("fit-1", 7.0, "1970-01-01T00:00:02.000Z")
    assert shown["attempts"][0] == {"token": 1, "status": "failed", "failure": "worker_lost", "message": "gone"}
    run.params = {"text": "<b>"}
    assert "&lt;b&gt;" in run._repr_html_() and "<b>" not in run._repr_html_()


def test_approvals_add_up_and_a_trigger_is_known_by_its_last_event() -> None:
    given = [("approval.given", "price@2", {"by": name, "reason": "fine", "evaluation": "price-2"}) for name in ("ann", "bob")]
    watched = [
        ("watch.began", "nightly", {}),
        ("watch.fired", "nightly", {"launch": "up-2", "why": "at 03:30", "causes": {}, "values": {}}),
    ]
    records = fold(events(*given, *watched))
    assert [each["by"] for each in records.approvals["price@2"]] == ["ann", "bob"]
    assert records.watched["nightly"] == {"launch": "up-2", "why": "at 03:30", "causes": {}, "values": {}, "at_s": 4.0}


def test_a_removed_version_keeps_its_record_and_tells_who_and_why() -> None:
    gone = ("version.removed", "price@1", {"by": "ann", "reason": "wrong rows", "digest": "d"})
    records = fold(events(("version.created", "price@1", version("price", 1)), gone))
    assert records.version("price@1").number == 1
    assert (records.removed["price@1"]["by"], records.removed["price@1"]["reason"]) == ("ann", "wrong rows")
    assert records.removed["price@1"]["at_s"] > 0


def test_tags_of_a_version_add_up_and_null_takes_one_away() -> None:
    records = fold(
        events(
            ("version.tagged", "price@1", {"tags": {"region": "west", "trial": "1"}, "by": "ann"}),
            ("version.tagged", "price@1", {"tags": {"trial": None, "owner": "ann"}, "by": "ann"}),
            ("version.tagged", "price@2", {"tags": {"trial": None}, "by": "ann"}),
        )
    )
    assert records.tagged["price@1"] == {"region": "west", "owner": "ann"}
    assert records.tagged["price@2"] == {}


def test_files_that_somebody_vouched_for_are_known_by_their_digest() -> None:
    records = fold(events(("artifact.trusted", "ab" * 32, {"by": "ann", "reason": "our own"})))
    assert records.trusted["ab" * 32]["reason"] == "our own"


def test_a_version_is_found_by_its_number_though_numbers_have_holes_or_came_in_another_order() -> None:
    told = [("version.created", f"price@{number}", version("price", number)) for number in (1, 2, 3, 5, 8)]
    records = fold(events(*told, erased=2))
    assert [records.version(f"price@{number}").number for number in (1, 3, 5, 8)] == [1, 3, 5, 8]
    for missing in (2, 4, 9):
        with pytest.raises(NotFound, match="no such version"):
            records.version(f"price@{missing}")
    imported = fold(events(*[("version.created", f"price@{number}", version("price", number)) for number in (3, 1, 2)]))
    assert [imported.version(f"price@{number}").number for number in (1, 2, 3)] == [1, 2, 3]


def test_runs_are_found_by_step_and_by_launch() -> None:
    told = [("run.created", f"fit-{number}", {**created(), "launch": f"up-{number % 2}"}) for number in range(4)]
    records = fold(events(*told))
    assert [run.id for run in records.of_launch("up-1")] == ["fit-1", "fit-3"]
    assert records.of_launch("up-7") == []
    newest = records.newest("fit")
    assert newest is not None
    assert newest.id == "fit-3"
    assert records.newest("none") is None


def test_the_moves_of_a_model_are_by_alias() -> None:
    told = [
        ("alias.moved", name, {"alias": alias, "version": 1, "decision": {}})
        for name, alias in (("a", "p"), ("b", "p"), ("a", "q"), ("a", "p"))
    ]
    records = fold(events(*told))
    assert {alias: len(moves) for alias, moves in records.moves("a").items()} == {"p": 2, "q": 1}
    assert records.moves("c") == {}
    records.release()


def test_a_tag_of_a_table_names_a_version_and_the_last_one_counts() -> None:
    told = [("version.created", f"rows@{number}", version("rows", number)) for number in (1, 2)]
    tagged = [("table.tagged", "rows", {"tag": "golden", "version": number, "by": "ana", "reason": ""}) for number in (2, 1)]
    records = fold(events(*told, *tagged))
    assert records.version("rows@golden").number == 1
    assert records.pointed["rows@golden"]["at_s"] == 4.0
    with pytest.raises(NotFound):
        records.version("rows@silver")


def test_a_table_is_held_from_a_rollback_to_its_release() -> None:
    rolled = ("table.rolled", "rows", {"version": 1, "from": 2, "token": "t", "by": "ana", "reason": "bad"})
    released = ("table.released", "rows", {"version": 1, "by": "ana", "reason": "good"})
    held = fold(events(rolled)).held("rows")
    assert held is not None and (held["version"], held["reason"], held["at_s"]) == (1, "bad", 1.0)
    assert fold(events(rolled, released)).held("rows") is None
    assert fold(events(rolled, released, rolled)).held("rows") is not None
    assert fold(events(rolled)).held("others") is None
