"""What the program on the host streams of an attempt, and that each of its verbs may be repeated."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from bedplate.cluster import remote_agent
from bedplate.core.attempt import Attempt, boot_id
from cluster.rig import FOREVER, attempt_in, ended, journal_of, printed, wait_until

AGENT = (sys.executable, "-m", "bedplate.cluster.remote_agent")


def frames(stream: bytes) -> tuple[dict[str, bytes], list[dict[str, Any]], list[str]]:
    """The bytes of each file, the other frames, and the names of files in the order in which they ended."""
    files: dict[str, bytes] = {}
    others, order = [], []
    while stream:
        line, _, stream = stream.partition(b"\n")
        head = json.loads(line)
        if "file" not in head:
            others.append(head)
            continue
        data, stream = stream[: head["bytes"]], stream[head["bytes"] :]
        assert len(files.get(head["file"], b"")) == head["at"]
        files[head["file"]] = files.get(head["file"], b"") + data
        order = [*(name for name in order if name != head["file"]), head["file"]]
    return files, others, order


def followed(attempt: Attempt, sent: dict[str, int] | None = None) -> bytes:
    output = io.BytesIO()
    remote_agent.follow(attempt.path, sent or {}, output)
    return output.getvalue()


def test_all_that_an_attempt_wrote_comes_and_its_end_comes_last(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, "print('one'); print('two')")
    remote_agent.start(attempt.path)
    files, others, order = frames(followed(attempt))
    assert files["logs/rank-0.log"] == b"one\ntwo\n"
    assert files["journal/shim.jsonl"] == (attempt.path / "journal" / "shim.jsonl").read_bytes()
    assert order[-1] == "journal/shim.jsonl"
    assert others[-1] == {"shim": "gone", "rebooted": False}
    assert ended(attempt)["status"] == "succeeded"


def test_what_was_sent_before_is_not_sent_again_and_a_torn_line_waits(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, "print('one'); print('two')")
    remote_agent.start(attempt.path)
    whole, _, _ = frames(followed(attempt))
    with (attempt.path / "journal" / "shim.jsonl").open("ab") as file:
        file.write(b'{"n":99,"at":')
    again = followed(attempt, {"logs/rank-0.log": 4, "journal/shim.jsonl": len(whole["journal/shim.jsonl"])})
    head, _, rest = again.partition(b"\n")
    assert json.loads(head) == {"file": "logs/rank-0.log", "at": 4, "bytes": 4}
    assert rest.startswith(b"two\n")
    assert b"99" not in rest


def test_an_attempt_is_started_once_and_gets_its_code(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "fit.py").write_text("print('ours')")
    folder = tmp_path / "runs" / "fit-1" / "1"
    attempt = attempt_in(tmp_path, argv=(sys.executable, "fit.py"), code=str(code), root=str(folder / "root"))
    assert remote_agent.start(attempt.path) == remote_agent.start(attempt.path)
    followed(attempt)
    assert remote_agent.start(attempt.path)["token"] == 1
    assert printed(attempt) == ["ours"]
    assert [entry.kind for entry in journal_of(attempt)].count("started") == 1


def test_a_reader_that_has_the_files_is_told_only_whether_it_runs(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, "print('one')")
    remote_agent.start(attempt.path)
    output = io.BytesIO()
    remote_agent.follow(attempt.path, None, output)
    files, others, _ = frames(output.getvalue())
    assert files == {}
    assert others[-1]["shim"] == "gone"


def test_a_cancel_and_a_forgetting_may_come_at_any_time(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    remote_agent.cancel(attempt.path, "cancel")  # before its start
    remote_agent.start(attempt.path)
    wait_until(lambda: printed(attempt))
    remote_agent.forget(attempt.path)  # while it runs
    assert attempt.path.is_dir()
    reader = threading.Thread(target=followed, args=[attempt])
    reader.start()
    remote_agent.cancel(attempt.path, "stop")
    reader.join(60)
    assert ended(attempt)["status"] == "stopped"
    remote_agent.cancel(attempt.path, "cancel")
    remote_agent.forget(attempt.path)
    remote_agent.forget(attempt.path)
    assert not attempt.path.exists()


def test_the_program_answers_in_json_and_says_what_it_could_not_do(tmp_path: Path) -> None:
    told = json.loads(subprocess.run([*AGENT, "hello"], capture_output=True, check=True, timeout=60).stdout)
    assert told["boot_id"] == boot_id()
    assert told["python"] == sys.version.split()[0]
    done = subprocess.run([*AGENT, "follow", str(tmp_path / "nowhere"), "{}"], capture_output=True, check=True, timeout=60)
    assert "FileNotFoundError" in json.loads(done.stdout)["error"]
