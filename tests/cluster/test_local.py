"""The local launcher: an attempt is started once, is known by more than a number, and is gone only when all of it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bedplate.cluster.engines.local import LocalLauncher
from bedplate.cluster.tree import MARK
from bedplate.core.attempt import ATTEMPT_FILE, Identity, boot_id, own_identity, read_attempt, read_identity, start_ticks
from bedplate.core.journal import JOURNAL_FOLDER, JournalReader
from cluster.rig import FOREVER, STUBBORN, attempt_in, ended, journal_of, pids_in, printed, runs, start_shim, wait_until

COUNT = "import os; open('count', 'a').write(f'{os.getpid()}\\n')"
HELPER = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)"
TREE = f"{COUNT}; {HELPER}; open('count', 'a').write(f'{{child.pid}}\\n'); {STUBBORN}"
IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
from bedplate.cluster.engines.local import LocalLauncher
from bedplate.core.attempt import read_attempt
launcher, told = LocalLauncher(), json.loads(sys.argv[2])
"""


def elsewhere(script: str, told: Any) -> str:
    """What a script prints that has a launcher of its own, in another process that has ended then."""
    line = [sys.executable, "-c", f"{IN_ANOTHER_PROCESS}\n{script}", "-", json.dumps(told)]
    return subprocess.check_output(line, text=True, timeout=60).strip()


def gone(launcher: LocalLauncher, handle: dict[str, Any]) -> bool:
    return launcher.poll(handle) == "gone"


# -- starting -------------------------------------------------------------------------------------------------------------------------


def test_the_handle_names_the_shim_in_a_session_of_its_own(tmp_path: Path) -> None:
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path, FOREVER)
    handle = launcher.submit(attempt)
    identity = read_identity(attempt.path)
    assert identity is not None
    assert handle == {**asdict(identity), "folder": attempt.folder}
    assert (handle["boot_id"], handle["start_ticks"]) == (boot_id(), start_ticks(handle["pid"]))
    assert os.getsid(handle["pid"]) == handle["pid"]
    launcher.cancel(handle, "cancel")


def test_the_attempt_file_is_written_if_it_is_not_there(tmp_path: Path) -> None:
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path, COUNT)
    (attempt.path / ATTEMPT_FILE).unlink()
    handle = launcher.submit(attempt)
    wait_until(lambda: gone(launcher, handle))
    assert read_attempt(attempt.path) == attempt
    launcher.submit(replace(attempt, step="another"))
    assert read_attempt(attempt.path) == attempt


def test_submitting_again_finds_the_shim_that_runs(tmp_path: Path) -> None:
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path, f"{COUNT}; {FOREVER}")
    handle = launcher.submit(attempt)
    assert launcher.submit(attempt) == handle
    assert LocalLauncher().submit(attempt) == handle
    wait_until(lambda: printed(attempt) == ["up"])
    assert len(pids_in(tmp_path / "count")) == 1
    launcher.cancel(handle, "cancel")
    assert launcher.submit(attempt) == handle, "also when it is dead: an attempt is run at most once"
    wait_until(lambda: gone(launcher, handle))


def test_submitting_while_a_shim_begins_gives_the_one_that_won(tmp_path: Path) -> None:
    """A loop that was killed after it started a shim, and before the shim had left its identity."""
    attempt = attempt_in(tmp_path, f"{COUNT}; {FOREVER}")
    first = start_shim(attempt)
    launcher = LocalLauncher()
    handle = launcher.submit(attempt)
    assert launcher.poll(handle) == "alive"
    wait_until(lambda: printed(attempt) == ["up"])
    identity = read_identity(attempt.path)
    assert handle == {**asdict(identity or own_identity(0)), "folder": attempt.folder}
    assert len(pids_in(tmp_path / "count")) == 1
    launcher.cancel(handle, "cancel")
    first.wait(60)


def test_a_loop_that_is_killed_right_after_submitting_leaves_one_attempt_to_adopt(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, f"{COUNT}; {FOREVER}")
    killed = "import os, signal; launcher.submit(read_attempt(Path(told))); os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(subprocess.CalledProcessError, match="SIGKILL"):
        elsewhere(killed, attempt.folder)
    launcher = LocalLauncher()
    handle = launcher.submit(attempt)
    assert launcher.poll(handle) == "alive"
    wait_until(lambda: printed(attempt) == ["up"])
    assert len(pids_in(tmp_path / "count")) == 1
    launcher.cancel(handle, "cancel")


def test_a_shim_that_cannot_begin_is_gone_and_never_begins(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, COUNT, shim_argv=(sys.executable, "-c", "raise SystemExit('no shim today')"))
    launcher = LocalLauncher()
    handle = launcher.submit(attempt)
    wait_until(lambda: gone(launcher, handle))
    assert "no shim today" in (attempt.path / "logs" / "shim.log").read_text()
    late = replace(attempt, shim_argv=(*attempt_in(tmp_path / "other").shim_argv[:2], attempt.folder))
    assert start_shim(late).wait(60) == 0
    assert not (tmp_path / "count").exists()


def test_no_zombie_is_left_also_when_nobody_polls(tmp_path: Path) -> None:
    handle = LocalLauncher().submit(attempt_in(tmp_path, COUNT))
    wait_until(lambda: not Path(f"/proc/{handle['pid']}").exists())


# -- what becomes of it ---------------------------------------------------------------------------------------------------------------


def test_another_process_adopts_what_it_did_not_start(tmp_path: Path) -> None:
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path, FOREVER)
    handle = launcher.submit(attempt)
    wait_until(lambda: printed(attempt) == ["up"])
    assert elsewhere("print(launcher.poll(told))", handle) == "alive"
    assert elsewhere("launcher.cancel(told, 'stop')", handle) == ""
    wait_until(lambda: gone(launcher, handle))
    assert ended(attempt)["status"] == "stopped"
    assert elsewhere("print(launcher.poll(told))", handle) == "gone"


def test_an_attempt_whose_shim_is_killed_is_gone_once_all_of_it_is(tmp_path: Path) -> None:
    """What the kernel does not end with the shim is ended by the poll, before it says gone."""
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path, TREE)
    handle = launcher.submit(attempt)
    wait_until(lambda: printed(attempt) == ["up"])
    os.kill(handle["pid"], signal.SIGKILL)
    wait_until(lambda: gone(launcher, handle))
    assert len(pids_in(tmp_path / "count")) == 2
    assert not [pid for pid in pids_in(tmp_path / "count") if runs(pid)]
    assert gone(launcher, handle)
    assert "ended" not in [entry.kind for entry in journal_of(attempt)]


def test_a_journal_that_was_torn_by_a_kill_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path, FOREVER)
    handle = launcher.submit(attempt)
    wait_until(lambda: printed(attempt) == ["up"])
    os.kill(handle["pid"], signal.SIGKILL)
    wait_until(lambda: gone(launcher, handle))
    reader = JournalReader(attempt.path)
    whole = [entry.kind for entry in reader.read()]
    with (attempt.path / JOURNAL_FOLDER / "shim.jsonl").open("ab") as file:
        file.write(b'{"n":99,"at":1.0,"kind":"ended","bo')
    assert reader.read() == []
    assert [entry.kind for entry in journal_of(attempt)] == whole


def test_cancel_ends_the_whole_tree_and_can_be_repeated(tmp_path: Path) -> None:
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path, TREE)
    handle = launcher.submit(attempt)
    wait_until(lambda: printed(attempt) == ["up"])
    for _ in range(3):
        launcher.cancel(handle, "cancel")
    wait_until(lambda: gone(launcher, handle))
    assert len(pids_in(tmp_path / "count")) == 2
    assert not [pid for pid in pids_in(tmp_path / "count") if runs(pid)]
    launcher.cancel(handle, "cancel")
    launcher.cancel(handle, "stop")


def test_cancel_also_ends_what_hides(tmp_path: Path) -> None:
    """A process without the attempt's environment, in another session, that prints nowhere: it still descends from the shim."""
    hidden = HELPER.replace("start_new_session=True", "start_new_session=True, env={}, stdout=-3, stderr=-3")
    attempt = attempt_in(tmp_path, f"{hidden}; open('count', 'w').write(f'{{child.pid}}\\n'); {FOREVER}")
    launcher = LocalLauncher()
    handle = launcher.submit(attempt)
    wait_until(lambda: printed(attempt) == ["up"])
    launcher.cancel(handle, "cancel")
    [hider] = pids_in(tmp_path / "count")
    wait_until(lambda: not runs(hider) and gone(launcher, handle))


def test_a_stop_for_a_command_that_ends_by_itself_meanwhile(tmp_path: Path) -> None:
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path, COUNT)
    handle = launcher.submit(attempt)
    wait_until(lambda: gone(launcher, handle))
    launcher.cancel(handle, "stop")
    assert ended(attempt)["status"] == "succeeded"


# -- identity -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another"}])
@pytest.mark.parametrize("left", [True, False], ids=["identity-left", "identity-not-left"])
def test_a_process_that_took_over_the_number_is_left_alone(tmp_path: Path, change: dict[str, Any], left: bool) -> None:
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        identity = replace(Identity(boot_id(), stranger.pid, start_ticks(stranger.pid) or 0, 1), **change)
        if left:
            (attempt.path / "identity.json").write_text(json.dumps(asdict(identity)))
        handle = {**asdict(identity), "folder": attempt.folder}
        assert launcher.poll(handle) == "gone"
        launcher.cancel(handle, "stop")
        launcher.cancel(handle, "cancel")
        time.sleep(0.1)  # for a signal that should not have been sent to do its work
        assert stranger.poll() is None
        stranger.kill()


def test_who_holds_the_claim_is_alive_whatever_its_number(tmp_path: Path) -> None:
    """A process number may mean nothing here: another container can share the folder."""
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path, FOREVER)
    handle = launcher.submit(attempt)
    wait_until(lambda: printed(attempt) == ["up"])
    identity = read_identity(attempt.path)
    assert identity is not None
    (attempt.path / "identity.json").write_text(json.dumps(asdict(replace(identity, pid=2**22 + 1))))
    assert launcher.poll(handle) == "alive"
    (attempt.path / "identity.json").write_text(json.dumps(asdict(identity)))
    launcher.cancel(handle, "cancel")


def test_an_attempt_whose_folder_is_deleted(tmp_path: Path) -> None:
    handle = {**asdict(own_identity(1)), "start_ticks": 1, "folder": str(tmp_path / "runs" / "fit-1" / "1")}
    LocalLauncher().cancel(handle, "cancel")
    assert LocalLauncher().poll(handle) == "gone"
    assert list(tmp_path.iterdir()) == []


# -- what it printed ------------------------------------------------------------------------------------------------------------------


def test_the_lines_of_a_rank_in_order(tmp_path: Path) -> None:
    """A progress bar that goes back to the start of its line gives lines; bytes that are no text are replaced."""
    script = "import os, sys; sys.stdout.buffer.write(b'a 1\\r a 2\\nb\\xff\\n' if os.environ['RANK'] == '0' else b'')"
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path, script, processes=2)
    assert list(launcher.logs(attempt, 0)) == []
    handle = launcher.submit(attempt)
    wait_until(lambda: gone(launcher, handle))
    assert list(launcher.logs(attempt, 0)) == ["a 1", " a 2", "b\ufffd"]
    assert list(launcher.logs(attempt, 1)) == []


def test_a_nested_attempt_has_its_own_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "the outer attempt's folder")
    launcher, attempt = LocalLauncher(), attempt_in(tmp_path, FOREVER)
    handle = launcher.submit(attempt)
    environment = Path(f"/proc/{handle['pid']}/environ").read_bytes().split(b"\0")
    assert [value for value in environment if value.startswith(MARK.encode())] == [f"{MARK}={attempt.folder}".encode()]
    launcher.cancel(handle, "cancel")
