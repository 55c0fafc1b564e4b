"""The ssh launcher beyond what every launcher promises: lost connections, hosts that cannot be used, files that come home first."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bedplate.cluster.engines.ssh import SshLauncher
from bedplate.cluster.remote_courier import PLACE_FILE
from bedplate.core.atomic import write_json
from bedplate.core.attempt import Attempt
from bedplate.core.pools_file import Capacity, DeclaredPool
from cluster.rig import FOREVER, attempt_in, ended, journal_of, printed, wait_until
from servers.testbed.openssh import HOSTS, OpenSsh

Make = Callable[..., SshLauncher]


@pytest.fixture
def launcher(openssh: OpenSsh) -> Iterator[Make]:
    """Makes launchers of a pool with these hosts, closed at the end."""
    made: list[SshLauncher] = []

    def make(*hosts: str, **fields: object) -> SshLauncher:
        values = {"python": sys.executable, "folder": str(openssh.directory / "pool"), "ssh_config": "ssh_config", **fields}
        pool = DeclaredPool.model_validate({"engine": "ssh", "hosts": hosts or HOSTS, "capacity": Capacity(), **values})
        made.append(SshLauncher(pool, openssh.directory))
        return made[-1]

    yield make
    for each in made:
        each.close()


def tags(attempt: Attempt) -> dict[str, str]:
    return {name: value for entry in journal_of(attempt) if entry.kind == "tag" for name, value in entry.body["values"].items()}


COUNTING = """
import time
for number in range(400):
    print(number, flush=True)
    time.sleep(0.01)
"""


def test_a_connection_that_breaks_again_and_again_ends_nothing_and_loses_no_line(launcher: Make, openssh: OpenSsh, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, COUNTING)
    ours = launcher()
    handle = ours.submit(attempt)
    for lines in (20, 120, 220, 320):
        wait_until(lambda lines=lines: len(printed(attempt)) > lines)
        assert openssh.cut() > 0
    wait_until(lambda: ours.poll(handle) == "gone")
    assert printed(attempt) == [str(number) for number in range(400)]
    assert ended(attempt)["status"] == "succeeded"
    assert [entry.kind for entry in journal_of(attempt)].count("started") == 1


def test_another_process_takes_over_and_the_first_lets_it(launcher: Make, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    first, second = launcher(), launcher()
    handle = first.submit(attempt)
    wait_until(lambda: printed(attempt))
    first.close()
    second.cancel(handle, "stop")
    wait_until(lambda: second.poll(handle) == "gone")
    assert first.poll(handle) == "gone"
    assert ended(attempt)["status"] == "stopped"


def test_a_host_that_cannot_be_reached_is_passed_over(launcher: Make, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, "print('here')")
    ours = launcher("nowhere", "b")
    handle = ours.submit(attempt)
    wait_until(lambda: ours.poll(handle) == "gone")
    assert tags(attempt)["host"] == "b"


def test_attempts_are_spread_over_the_hosts(launcher: Make, tmp_path: Path) -> None:
    attempts = [attempt_in(tmp_path, token=token) for token in (1, 2, 3)]
    ours = launcher()
    handles = [ours.submit(attempt) for attempt in attempts]
    wait_until(lambda: [ours.poll(handle) for handle in handles] == ["gone"] * 3)
    assert sorted(tags(attempt)["host"] for attempt in attempts) == ["a", "b", "c"]


def test_a_host_that_was_excluded_is_used_only_when_there_is_no_other(launcher: Make, tmp_path: Path) -> None:
    attempts = [attempt_in(tmp_path, excluded=("a",)), attempt_in(tmp_path, token=2, excluded=HOSTS)]
    ours = launcher()
    handles = [ours.submit(attempt) for attempt in attempts]
    wait_until(lambda: [ours.poll(handle) for handle in handles] == ["gone", "gone"])
    assert tags(attempts[0])["host"] in ("b", "c")
    assert tags(attempts[1])["host"] in HOSTS


def test_a_silent_host_keeps_its_attempt_until_the_pool_does_not_name_it_any_more(launcher: Make, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path)
    placed = {"phase": "placed", "host": "nowhere", "folder": "/gone", "python": "/gone", "package": ""}
    write_json(attempt.path / PLACE_FILE, placed)
    handle = {"folder": attempt.folder, "token": 1}
    patient = launcher("nowhere", "a")
    assert patient.submit(attempt) == handle
    wait_until(lambda: patient.poll(handle) == "unknown")
    assert journal_of(attempt) == []
    patient.close()
    told = launcher("a")
    wait_until(lambda: told.poll(handle) == "gone")
    (end,) = [entry.body for entry in journal_of(attempt)]
    assert (end["failure"], end["node"]) == ("node_lost", "nowhere")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"python": "/nowhere/python"}, "the pool's Python does not run on its host"),
        ({"folder": "/proc/pool"}, "the pool's folder cannot be made on its host"),
    ],
)
def test_a_host_that_lacks_something_ends_the_attempt_with_what(launcher: Make, tmp_path: Path, fields: dict[str, str], said: str) -> None:
    attempt = attempt_in(tmp_path)
    ours = launcher("a", **fields)
    handle = ours.submit(attempt)
    wait_until(lambda: ours.poll(handle) == "gone")
    end = next(entry.body for entry in journal_of(attempt) if entry.kind == "ended")
    assert (end["status"], end["failure"]) == ("failed", "user_error")
    assert said in end["message"]


def test_a_stop_that_comes_before_any_host_was_asked_starts_nothing(launcher: Make, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, "print('here')")
    ours = launcher("nowhere")
    handle = ours.submit(attempt)
    ours.cancel(handle, "stop")
    wait_until(lambda: ours.poll(handle) == "gone")
    assert [(entry.kind, entry.body.get("status")) for entry in journal_of(attempt)] == [("ended", "stopped")]


SAVING = """
import json, os, sys
from pathlib import Path
from bedplate.core.attempt import read_attempt
from bedplate.core.journal import JournalWriter
attempt = read_attempt(Path(os.environ["BEDPLATE_ATTEMPT"]))
attempt.out.mkdir()
(attempt.out / "weights").write_bytes(b"w" * 3_000_000)
Path("made").mkdir()
Path("made/rows.csv").write_text("1,2")
output = {"name": "made/rows.csv", "kind": "file", "digest": "0", "location": "made/rows.csv", "meta": {}}
JournalWriter(attempt.path, "worker").write("output", **output)
print(Path("given/input.txt").read_text(), Path.cwd() == Path(attempt.root))
"""


def test_files_are_here_before_the_line_that_names_them(launcher: Make, tmp_path: Path) -> None:
    state, root = tmp_path / "state", tmp_path / "project"
    (root / "given").mkdir(parents=True)
    (root / "given" / "input.txt").write_text("seven")
    state.mkdir()
    inputs = {"given": {"path": str(root / "given" / "input.txt")}}
    attempt = attempt_in(state, SAVING, root=str(root), code=str(root), inputs=inputs)
    ours = launcher()
    handle = ours.submit(attempt)
    wait_until(lambda: "output" in [entry.kind for entry in journal_of(attempt)])
    assert (attempt.out / "weights").read_bytes() == b"w" * 3_000_000
    assert (root / "made" / "rows.csv").read_text() == "1,2"
    wait_until(lambda: ours.poll(handle) == "gone")
    assert printed(attempt) == ["seven True"]
    assert ended(attempt)["status"] == "succeeded"


def test_what_ended_is_forgotten_there_and_code_is_kept(launcher: Make, openssh: OpenSsh, tmp_path: Path) -> None:
    code = tmp_path / "code" / "abc"
    code.mkdir(parents=True)
    (code / "fit.py").write_text("print('ours')")
    attempt = attempt_in(tmp_path, argv=(sys.executable, "fit.py"), code=str(code))
    ours = launcher()
    handle = ours.submit(attempt)
    place = json.loads((attempt.path / "attempt.json").read_text())["folder"]
    wait_until(lambda: ours.poll(handle) == "gone")
    assert printed(attempt) == ["ours"]
    assert place == attempt.folder
    kept = [path for path in (openssh.directory / "pool" / "projects").rglob("code/abc/fit.py") if tmp_path.name in str(path)]
    assert len(kept) == 1
    wait_until(lambda: not list(kept[0].parents[2].glob("runs/fit-1/1")))


def test_on_a_shared_file_system_nothing_travels(launcher: Make, openssh: OpenSsh, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, "import os; print(os.environ['BEDPLATE_ATTEMPT'])")
    ours = launcher(shared=True, folder=str(openssh.directory / "unused"))
    handle = ours.submit(attempt)
    wait_until(lambda: ours.poll(handle) == "gone")
    assert printed(attempt) == [attempt.folder]
    assert ended(attempt)["status"] == "succeeded"
    assert not (openssh.directory / "unused").exists()
