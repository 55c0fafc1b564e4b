"""`bedplate watch`: looking once, following the project file, and being killed; what is due is tested in tests/flow/test_watching.py."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from cli.kit import as_json, bedplate, ended, is_running, refused, started, wait_until

WATCH = "watch:\n  changes: {targets: [hello], changed: [code], mode: run, pause: 1ms}\n"


def watched(folder: Path) -> Path:
    (folder / "bedplate.yaml").write_text((folder / "bedplate.yaml").read_text() + WATCH)
    return folder


def test_once_launches_what_is_due_and_says_why(hello: Path) -> None:
    watched(hello)
    done = bedplate(hello, "watch", "--once", "--json")
    assert done.returncode == 0, done.stderr
    fired = json.loads(done.stdout)
    assert (fired["trigger"], fired["why"], fired["status"]) == ("changes", "hello was never made", "done")
    assert bedplate(hello, "watch", "--once").stdout == "", "nothing is due any more"
    (hello / "hello.py").write_text((hello / "hello.py").read_text() + "# another\n")
    again = bedplate(hello, "watch", "--once")
    assert "changes: the code of hello changed  -> run-" in again.stderr and again.stdout.endswith("done\n")
    assert [run["id"] for run in as_json(hello, "ps", "--all")] == ["hello-1", "hello-2"]


def test_a_launch_that_fails_ends_it_with_1(hello: Path) -> None:
    watched(hello)
    (hello / "hello.py").write_text("def hello(run, name='world', seconds=0):\n    raise ValueError('no')\n")
    done = bedplate(hello, "watch", "--once")
    assert done.returncode == 1 and "failed: hello-1 failed" in done.stdout


def test_it_goes_on_until_ctrl_c_and_sees_a_changed_project_file(hello: Path) -> None:
    watched(hello)
    process = started(hello, "watch", "--poll", "100ms")
    state = hello / ".bedplate" / "ledger.db"
    wait_until(
        lambda: state.exists() and len(as_json(hello, "ps", "--all")) == 1 and as_json(hello, "ps", "--all")[0]["status"] == "succeeded"
    )
    text = (hello / "bedplate.yaml").read_text()
    (hello / "bedplate.yaml").write_text(text.replace("name: world", "name: you"))
    wait_until(lambda: [run["status"] for run in as_json(hello, "ps", "--all")] == ["succeeded", "succeeded"])
    process.send_signal(signal.SIGINT)
    code, output = ended(process)
    assert code == 130 and "the declaration of hello changed" in output
    assert "Traceback" not in output


def test_ctrl_c_during_a_launch_stops_it_and_ends_the_watch(hello: Path) -> None:
    watched(hello)
    text = (hello / "bedplate.yaml").read_text()
    (hello / "bedplate.yaml").write_text(text.replace("seconds: 0", "seconds: 60"))
    process = started(hello, "watch", "--poll", "100ms")
    wait_until(lambda: is_running(hello))
    process.send_signal(signal.SIGINT)
    code, output = ended(process)
    assert code == 130 and "stopped" in output and "Traceback" not in output
    assert [run["status"] for run in as_json(hello, "ps", "--all")] == ["stopped"]


def test_a_project_without_triggers_is_told_how_to_declare_one(hello: Path) -> None:
    assert "the project declares no trigger" in refused(hello, "watch", "--once")


def test_a_watcher_that_is_killed_is_followed_by_one_that_finishes_its_launch(hello: Path) -> None:
    watched(hello)
    text = (hello / "bedplate.yaml").read_text()
    (hello / "bedplate.yaml").write_text(text.replace("seconds: 0", "seconds: 3"))
    process = started(hello, "watch", "--poll", "100ms")
    wait_until(lambda: is_running(hello))
    process.kill()
    ended(process)
    done = bedplate(hello, "watch", "--once")
    assert done.returncode == 0, done.stderr
    assert [(run["id"], run["status"]) for run in as_json(hello, "ps", "--all")] == [("hello-1", "succeeded")]
    assert bedplate(hello, "watch", "--once").stdout == "", "it fired once"
