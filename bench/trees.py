"""File trees beside DVC: many small files, and one large file, each command of both in a process of its own, one after the other.

`BEDPLATE_BENCH_FILES` and `BEDPLATE_BENCH_LARGE_BYTES` make it smaller. Does not know: what the commands do.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.peers import python_of
from bench.table import Row, median_s

DVC = ["dvc==3.66.1"]
FILES = int(os.environ.get("BEDPLATE_BENCH_FILES", "20000"))
FILE_BYTES = 4096
LARGE_BYTES = int(os.environ.get("BEDPLATE_BENCH_LARGE_BYTES", str(2 << 30)))
REPEATS = 3
BLOCK_BYTES = 1 << 20
OPENED = "from pathlib import Path; from bedplate.data.trees.repository import Repository; opened = Repository.open(Path())"
ADD = f"{OPENED}; from bedplate.data.trees.adding import add\n---\nadd(opened, 'large', lambda _: None)"
ADD_CHUNKED = f"{OPENED}; from bedplate.data.trees.chunked import add_chunked\n---\nadd_chunked(opened, 'large', lambda _: None)"
MD5 = "import hashlib\n---\nhashlib.file_digest(open('large', 'rb'), 'md5')"
BLAKE3 = "import blake3\n---\nblake3.blake3(max_threads=2).update_mmap('large').digest()"


def rows() -> list[Row]:
    """Each command on a tree of small files, and adding one large file."""
    python = python_of("dvc", DVC)
    ours = [sys.executable, "-m", "bedplate.cli.main", "data"]
    theirs = [str(python), "-m", "dvc"]
    taken: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(REPEATS):
            for who, command in (("ours", ours), ("dvc", theirs)):
                folder = Path(scratch, f"{who}-{repeat}")
                for name, seconds in _small(command, folder).items():
                    taken.setdefault((name, who), []).append(seconds)
                # nothing is deleted before the end: for minutes ext4 looks at every inode that was freed, and passes it over
        small = [_row(name, taken[name, "ours"], taken[name, "dvc"]) for name in ("add", "add again", "status", "push")]
        return [*small, *_large(ours, Path(scratch) / "large")]


def _row(name: str, ours: list[float], theirs: list[float]) -> Row:
    spread = f"{min(ours):.3g} to {max(ours):.3g}"
    what = f"{name}: {FILES} files of 4 KB"
    return Row(what, statistics.median(ours), "s", spread, statistics.median(theirs), "dvc 3.66.1", 1 / 8)


def _small(command: list[str], folder: Path) -> dict[str, float]:
    _write(folder)
    settings = {**os.environ, "DVC_NO_ANALYTICS": "1", "HOME": str(folder)}

    def timed(*words: str) -> float:
        started_s = time.perf_counter()
        subprocess.run([*command, *words], cwd=folder, env=settings, check=True, capture_output=True)
        return time.perf_counter() - started_s

    return {
        "add": timed("add", "t"),
        "add again": timed("add", "t"),
        "status": timed("status"),
        "push": timed("push"),
    }


def _write(folder: Path) -> None:
    """The tree, and a remote in a folder beside it."""
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text(
        f"[core]\n    no_scm = True\n    remote = store\n['remote \"store\"']\n    url = {folder}-remote\n"
    )
    content = os.urandom(FILE_BYTES * FILES)
    for number in range(FILES):
        file = folder / "t" / f"{number % 100:02}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content[number * FILE_BYTES : (number + 1) * FILE_BYTES])
    os.sync()


def _large(command: list[str], folder: Path) -> list[Row]:
    """Bytes a second of adding one file: the call itself, beside one pass over the file in a process as warm, and the whole command."""
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    file = folder / "large"
    with file.open("wb") as out:
        for _ in range(LARGE_BYTES // BLOCK_BYTES):
            out.write(os.urandom(BLOCK_BYTES))
    os.sync()
    found = []
    for what, words, limit, name, call, peer in (
        ("one large file", ["add", "large"], 0.9, "one MD5", ADD, MD5),
        ("one large file, chunked", ["add", "--chunked", "large"], 0.8, "BLAKE3, 2 threads", ADD_CHUNKED, BLAKE3),
    ):
        times: dict[str, list[float]] = {"command": [], "call": [], "peer": []}
        for _ in range(REPEATS):
            _fresh(folder)
            times["command"].append(median_s(_called([*command, *words], folder), 1)[0])
            _fresh(folder)
            times["call"].append(_timed_inside(call, folder))
            times["peer"].append(_timed_inside(peer, folder))
        rate = LARGE_BYTES / statistics.median(times["peer"]) / 1e9
        for kind, bar in (("call", limit), ("command", None)):
            ours = times[kind]
            spread = " to ".join(f"{LARGE_BYTES / seconds / 1e9:.3g}" for seconds in (max(ours), min(ours)))
            median = LARGE_BYTES / statistics.median(ours) / 1e9
            found.append(Row(f"add: {what}, the {kind}", median, "GB/s", spread, rate, name, bar, higher_is_better=True))
    return found


def _timed_inside(code: str, folder: Path) -> float:
    """The seconds that the second half of some code takes in a process of its own."""
    prepare, work = code.split("---")
    timed = f"import time\n{prepare}\nbegun_s = time.perf_counter()\n{work}\nprint(time.perf_counter() - begun_s)"
    return float(subprocess.run([sys.executable, "-c", timed], cwd=folder, check=True, capture_output=True, text=True).stdout)


def _fresh(folder: Path) -> None:
    for name in ("cache", "tmp"):
        shutil.rmtree(folder / ".dvc" / name, ignore_errors=True)
    for left in folder.glob("large.*"):
        left.unlink()
    (folder / "large").chmod(0o644)


def _called(command: list[str], folder: Path) -> Callable[[], object]:
    return lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True)
