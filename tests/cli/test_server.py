"""`bedplate server`: hosts the loop for every command; runs survive it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bedplate.flow.drive import is_hosted
from bedplate.flow.workspace import open_workspace
from cli.kit import apart, as_json, bedplate, ended, interrupt, is_running, processes_of, started, wait_until


def hosted(folder: Path) -> bool:
    with open_workspace(folder) as workspace:
        return is_hosted(workspace)


def test_it_drives_what_other_commands_ask_for_and_a_second_one_is_refused(hello: Path) -> None:
    process = started(hello, "server", "--json")
    wait_until(lambda: hosted(hello))
    second = apart(hello, "server")
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.startswith("error: another process hosts the loop of this project")
    assert as_json(hello, "run", "hello")["runs"][0]["status"] == "succeeded"
    interrupt(process)
    code, output = ended(process)
    assert code == 0, output
    told = json.loads(output)
    assert (told["hosts"], told["pid"]) == ("hello", process.pid)
    assert told["address"].startswith("http://127.0.0.1:")
    assert not hosted(hello)


def test_a_run_survives_its_server_and_another_one_goes_on_with_it(hello: Path) -> None:
    first = started(hello, "server")
    wait_until(lambda: hosted(hello))
    assert bedplate(hello, "run", "hello", "--detach", "--set", "seconds=3").returncode == 0
    wait_until(lambda: is_running(hello))
    first.terminate()
    code, said = ended(first)
    assert code == 0
    assert re.fullmatch(
        r"hosting the loop of hello, and MLFLOW_TRACKING_URI=http://127\.0\.0\.1:\d+; `bedplate down` or Ctrl-C ends it\n", said
    )
    assert processes_of(hello), "the run goes on"
    second = started(hello, "server")
    wait_until(lambda: as_json(hello, "runs")[0]["status"] == "succeeded")
    assert len(as_json(hello, "runs")[0]["attempts"]) == 1
    assert bedplate(hello, "down").returncode == 0
    assert ended(second)[0] == 0
