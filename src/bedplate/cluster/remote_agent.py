"""What runs on a host for an engine that is elsewhere: `python -m bedplate.cluster.remote_agent VERB FOLDER`.

`hello` tells what the host has; `follow` starts the shim of the attempt in FOLDER, once, and streams what the attempt writes until it is
gone; `cancel` passes a stop notice or ends the tree; `forget` takes the folder away. Each may be repeated. The shim has a session of its
own and outlives the connection. Standard library only, apart from our own.

A frame of the stream is a line of JSON: {"file", "at", "bytes"} with so many bytes behind it, those of the file from `at` on, or {"shim":
"alive" | "gone" | "unknown", "rebooted"}, or, at last, {"error"}. The shim's journal comes after all that was written before it, so an end
is the last to be seen.
Does not know: ssh, or who reads the stream.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from bedplate.cluster.engines.local import LocalLauncher
from bedplate.core.atomic import write_json
from bedplate.core.attempt import boot_id, read_attempt, read_identity
from bedplate.core.journal import JOURNAL_FOLDER

HANDLE_FILE = "handle.json"
SHIM_JOURNAL = f"{JOURNAL_FOLDER}/shim.jsonl"
FOLLOWED = (f"{JOURNAL_FOLDER}/*.jsonl", "logs/*.log")
SCAN_S = 0.05
BEAT_S = 0.5
CHUNK_BYTES = 1 << 20


def hello() -> dict[str, Any]:
    """What the host has: its name, interpreter and system."""
    return {"host": platform.node(), "python": platform.python_version(), "system": platform.platform(), "boot_id": boot_id()}


def start(folder: Path) -> dict[str, Any]:
    """Give the attempt a root with the snapshot of its code, and start its shim; the same handle again when it was started before."""
    known = folder / HANDLE_FILE
    if known.exists():
        return dict(json.loads(known.read_text()))
    attempt = read_attempt(folder)
    root, code = Path(attempt.root), Path(attempt.code)
    if read_identity(folder) is None and root.is_relative_to(folder):
        root.mkdir(exist_ok=True)
        if code != root and code.is_dir():
            shutil.copytree(code, root, dirs_exist_ok=True)
    handle = LocalLauncher().submit(attempt)
    write_json(known, handle)
    return handle


def cancel(folder: Path, how: str) -> None:
    """`stop` or `cancel` what runs; harmless when nothing does."""
    if (folder / HANDLE_FILE).exists():
        LocalLauncher().cancel(_handle(folder), "stop" if how == "stop" else "cancel")


def forget(folder: Path) -> None:
    """Take away the folder of an attempt of which nothing runs."""
    if not (folder / HANDLE_FILE).exists() or LocalLauncher().poll(_handle(folder)) == "gone":
        shutil.rmtree(folder, ignore_errors=True)


def follow(folder: Path, sent: Mapping[str, int] | None, output: BinaryIO) -> None:
    """Stream what the attempt wrote beyond the `sent` bytes of each file, and goes on to write, until nothing of it runs.

    With None only whether it runs: the reader has the files themselves.
    """
    launcher, offsets, told_at_s = LocalLauncher(), dict(sent or {}), 0.0
    while True:
        handle = _handle(folder)
        shim = launcher.poll(handle)  # before the files: what is gone has written all
        moved = sent is not None and _send_new(folder, offsets, output)
        if moved or shim == "gone" or time.monotonic() - told_at_s > BEAT_S:
            told_at_s = time.monotonic()
            _frame(output, {"shim": shim, "rebooted": handle["boot_id"] != boot_id()})
        if shim == "gone":
            return
        time.sleep(SCAN_S)


def _send_new(folder: Path, offsets: dict[str, int], output: BinaryIO) -> bool:
    """Send what is new; whether anything was."""
    last = _size(folder / SHIM_JOURNAL)
    names = sorted(path.relative_to(folder).as_posix() for pattern in FOLLOWED for path in folder.glob(pattern))
    ends = {name: _size(folder / name) for name in names if name != SHIM_JOURNAL}
    moved = False
    for name, end in [*ends.items(), (SHIM_JOURNAL, last)]:
        while offsets.get(name, 0) < end:
            at = offsets.get(name, 0)
            with (folder / name).open("rb") as file:
                file.seek(at)
                data = file.read(end - at if is_journal(name) else min(CHUNK_BYTES, end - at))
            if is_journal(name):
                data = data[: data.rfind(b"\n") + 1]
            if not data:
                break
            _frame(output, {"file": name, "at": at, "bytes": len(data)}, data)
            offsets[name] = at + len(data)
            moved = True
    return moved


def is_journal(name: str) -> bool:
    """Whether a file that is followed is a journal, of which only whole lines travel."""
    return name.startswith(f"{JOURNAL_FOLDER}/")


def _frame(output: BinaryIO, head: Mapping[str, Any], data: bytes = b"") -> None:
    output.write(json.dumps(head).encode() + b"\n" + data)
    output.flush()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _handle(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / HANDLE_FILE).read_text()))


def main(verb: str, words: list[str]) -> int:
    """Do what `verb` says; an answer is JSON on standard output. Returns 0."""
    if verb == "follow":
        try:
            start(Path(words[0]))
            follow(Path(words[0]), json.loads(words[1]), sys.stdout.buffer)
        except (OSError, ValueError) as error:  # no process can be started, or the folder is not whole: the other side decides
            _frame(sys.stdout.buffer, {"error": f"{type(error).__name__}: {error}"})
    elif verb == "cancel":
        cancel(Path(words[0]), words[1])
    elif verb == "forget":
        forget(Path(words[0]))
    else:
        print(json.dumps(hello()))  # noqa: T201 - the answer
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
