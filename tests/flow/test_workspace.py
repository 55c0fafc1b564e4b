"""A workspace: the project, its ledger and records, and what people ask of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.clock import SimClock
from bedplate.core.errors import Busy, LedgerError, SpecError
from bedplate.core.event import Draft
from bedplate.flow.workspace import open_workspace, request_launch, request_stop
from flow.world import SHOP, World


def test_a_project_is_found_from_below_and_keeps_its_state_beside_its_file(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text("project: here")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    with open_workspace(tmp_path / "deep" / "er") as workspace:
        assert (workspace.project.name, workspace.state) == ("here", tmp_path / ".bedplate")
        assert workspace.attempt_folder("fit-1", 2) == tmp_path / ".bedplate" / "runs" / "fit-1" / "2"
        assert workspace.code_store == tmp_path / ".bedplate" / "code"


def test_without_a_project_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no project file here"):
        open_workspace(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_state_of_another_project_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDPLATE_STATE", str(tmp_path / "state"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bedplate.yaml").write_text(f"project: {name}")
    open_workspace(tmp_path / "one").close()
    with pytest.raises(LedgerError, match="belongs to another project"):
        open_workspace(tmp_path / "two")


def test_what_one_asks_for_another_sees(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text(SHOP)
    with open_workspace(tmp_path, clock=SimClock(5.0)) as one, open_workspace(tmp_path) as two:
        launch = request_launch(one, "run", ("make",), ("make",), "because")
        assert two.records.launches == {}
        seen = two.refresh().launches[launch]
        assert (seen.mode, seen.targets, seen.force, seen.status, seen.requested_at_s) == ("run", ("make",), ("make",), "open", 5.0)
        asked = next(event for event in two.ledger.read() if event.kind == "launch.requested").payload
        assert asked["why"] == "because" and asked["by"]


def test_a_launch_keeps_the_project_as_it_was_when_somebody_asked(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text(SHOP)
    with open_workspace(tmp_path, {"lr": "0.5"}) as workspace:
        launch = request_launch(workspace, "run", ("fit",))
    (tmp_path / "bedplate.yaml").write_text("project: shop")
    with open_workspace(tmp_path) as later:
        assert later.project.spec.jobs == {}
        then = later.with_spec(later.records.launches[launch].spec).project.spec
        assert then.jobs["fit"].params == {"lr": 0.5}, "overrides included"
        assert then.features["sums"].from_ == "rows"


def test_a_stop_is_recorded_for_each_run(world: World) -> None:
    request_stop(world.workspace, ("make-1", "fit-2"), "cancel", "why not")
    assert [(event.subject, event.payload["how"]) for event in world.events("stop.requested")] == [
        ("make-1", "cancel"),
        ("fit-2", "cancel"),
    ]


def test_what_is_erased_while_it_is_open_is_gone_after_the_next_refresh(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text("project: shop\n")
    with open_workspace(tmp_path) as one, open_workspace(tmp_path) as two:
        records = one.records
        one.ledger.append([Draft("step.accepted", "sums", {"fingerprint": "a"}), Draft("step.accepted", "rows", {"fingerprint": "b"})])
        assert one.refresh().accepted == {"sums": "a", "rows": "b"}
        with pytest.raises(Busy):  # its stored records are being read, by both
            two.ledger.erase(1, "a slip")
        assert one.refresh() is records, "whoever holds the records sees it too"
        assert records.accepted == {"rows": "b"}
        assert two.refresh().accepted == {"rows": "b"}
        for workspace in (one, two):
            workspace.records.release()
        two.ledger.erase(1, "a slip")


def test_a_long_history_is_stored_and_read_again(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text("project: shop\n")
    with open_workspace(tmp_path) as workspace:
        workspace.ledger.append([Draft("step.accepted", f"s-{number}", {"fingerprint": str(number)}) for number in range(3000)])
    with open_workspace(tmp_path) as workspace:
        assert workspace.records.accepted["s-2999"] == "2999"
        assert workspace.records.seq == 3000
    with open_workspace(tmp_path) as workspace:
        assert workspace.records.accepted["s-17"] == "17"
        assert "s-3000" not in workspace.records.accepted
