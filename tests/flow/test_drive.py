"""Driving: real commands to their end, watching another host, and taking over when it dies."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from bedplate.core.attempt import Identity, boot_id, start_ticks
from bedplate.core.errors import BedplateError
from bedplate.core.plan import Plan
from bedplate.core.record import LaunchRecord
from bedplate.flow.drive import drive, is_hosted, serve_loop, settle, start_server
from bedplate.flow.loop import LEASE
from bedplate.flow.stopping import bring_down
from bedplate.flow.watch import Progress
from bedplate.flow.workspace import Workspace, open_workspace, request_launch, request_stop
from flow.world import World

PROJECT = """
project: driven
jobs:
  quick: {command: "cp bedplate.yaml copy.txt", outputs: [copy.txt]}
  broken: {command: "echo gone wrong >&2; exit 3"}
  slow: {command: "sleep 60"}
datasets:
  lines: {source: copy.txt}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "bedplate.yaml").write_text(PROJECT)
    with open_workspace(tmp_path) as opened:
        yield opened


def test_a_launch_is_driven_to_its_end_and_shown_on_the_way(workspace: Workspace) -> None:
    shown: list[tuple[str, bool, list[Progress]]] = []

    def observe(launch: LaunchRecord, plan: Plan | None, moments: list[Progress]) -> None:
        shown.append((launch.status, plan is not None, moments))

    record = drive(workspace, request_launch(workspace, "run", ("quick",)), observe)
    assert record.status == "done"
    assert shown[-1][0] == "done" and all(planned for _, planned, _ in shown), "the host of the loop has the plan"
    assert {moment.run for _, _, moments in shown for moment in moments} == {"quick-1"}
    assert workspace.records.run("quick").outputs == ("copy.txt@1",)
    assert not is_hosted(workspace)


def test_a_failing_command_ends_its_launch_with_what_it_printed(workspace: Workspace) -> None:
    record = drive(workspace, request_launch(workspace, "run", ("broken",)), lambda *_: None)
    assert record.status == "failed"
    assert record.message.startswith("broken-1 failed: ") and record.message.endswith("exit code 3: gone wrong")


def test_who_does_not_host_the_loop_watches_and_takes_over_when_the_host_dies(workspace: Workspace) -> None:
    host = subprocess.Popen(["sleep", "600"])
    identity = Identity(boot_id(), host.pid, start_ticks(host.pid) or 0, 0)
    workspace.ledger.acquire(LEASE, json.dumps(asdict(identity)), 600.0)
    plans: list[bool] = []

    def observe(_launch: LaunchRecord, plan: Plan | None, _moments: list[Progress]) -> None:
        plans.append(plan is not None)
        if len(plans) == 5:
            host.kill()
            host.wait()

    assert is_hosted(workspace)
    record = drive(workspace, request_launch(workspace, "run", ("quick",)), observe)
    assert record.status == "done"
    assert plans[:5] == [False] * 5 and plans[-1]


def test_settling_takes_over_too(workspace: Workspace) -> None:
    host = subprocess.Popen(["sleep", "600"])
    identity = Identity(boot_id(), host.pid, start_ticks(host.pid) or 0, 0)
    launch = request_launch(workspace, "run", ("slow",))

    def started(record: LaunchRecord, _plan: Plan | None, _moments: list[Progress]) -> None:
        if workspace.records.runs and workspace.records.run("slow").state.live:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(workspace, launch, started)
    workspace.ledger.acquire(LEASE, json.dumps(asdict(identity)), 600.0)
    request_stop(workspace, ("slow-1",), "cancel", "enough")

    def observe(_moments: list[Progress]) -> None:
        if host.poll() is None:
            host.kill()
            host.wait()

    settle(workspace, ["slow-1"], observe)
    assert workspace.records.run("slow").status == "cancelled"


def test_a_host_elsewhere_drives_while_others_only_look(world: World) -> None:
    launch = world.ask("run", "sums")
    with ExitStack() as stack, open_workspace(world.folder, clock=world.clock) as other:
        loop = stack.enter_context(world.loop())

        def observe(_launch: LaunchRecord, plan: Plan | None, _moments: list[Progress]) -> None:
            assert plan is None
            loop.tick()
            world.clock.sleep(0.3)

        assert drive(other, launch, observe).status == "done"
        settle(other, ["sums-1"], lambda _: pytest.fail("it has ended"))


def test_a_server_is_refused_while_another_hosts(world: World) -> None:
    with world.loop(), open_workspace(world.folder, clock=world.clock) as other:
        with pytest.raises(BedplateError, match="another process hosts the loop"):
            serve_loop(other, lambda: True)


def test_serving_drives_whatever_is_asked_for_until_it_is_not_wanted(workspace: Workspace) -> None:
    launch = request_launch(workspace, "run", ("quick",))
    serve_loop(workspace, lambda: workspace.records.launches[launch].status == "open")
    assert workspace.records.launches[launch].status == "done"


def test_a_server_in_the_background_drives_and_is_brought_down(workspace: Workspace) -> None:
    pid = start_server(workspace)
    assert pid > 0 and start_ticks(pid) is not None
    for _ in range(600):
        if is_hosted(workspace):
            break
        workspace.clock.sleep(0.05)
    assert is_hosted(workspace), (workspace.state / "server.log").read_text()
    record = drive(workspace, request_launch(workspace, "run", ("quick",)), lambda *_: None)
    assert record.status == "done"
    assert bring_down(workspace, lambda _: None) == []
    for _ in range(600):
        if start_ticks(pid) is None:
            break
        workspace.clock.sleep(0.05)
    assert start_ticks(pid) is None and not is_hosted(workspace)
