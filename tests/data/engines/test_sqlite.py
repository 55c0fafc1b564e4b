"""The embedded store: one file, which is read while it is written."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bedplate.core.errors import DataError, NotFound
from bedplate.data.engines.sqlite import SqliteEngine

WRITER = """
import sys
from pathlib import Path
from bedplate.data.engines.sqlite import SqliteEngine
engine = SqliteEngine(Path(sys.argv[1]))
engine.follow_writes()
number = 0
print("begun", flush=True)
while True:
    before, after = str(number).encode() if number else None, str(number + 1).encode()
    assert engine.commit(b"guard", before, {b"guard": after, **{b"row%d" % place: after for place in range(50)}}, [])
    number += 1
"""


def test_no_store_and_no_database(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no online store"):
        SqliteEngine(tmp_path / "online.db")
    (tmp_path / "online.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataError, match="no online store, or it is damaged"):
        SqliteEngine(tmp_path / "online.db")


def test_a_copy_is_a_store_of_its_own(tmp_path: Path) -> None:
    engine = SqliteEngine.create(tmp_path / "online.db")
    engine.follow_writes()
    engine.load([(b"a", b"1")])
    engine.copy_to(tmp_path / "copy.db")
    engine.load([(b"a", b"2")])
    copy = SqliteEngine(tmp_path / "copy.db")
    assert (engine.get([b"a"]), copy.get([b"a"])) == ([b"2"], [b"1"])
    copy.close()
    engine.close()


def test_a_writer_that_is_killed_leaves_whole_commits(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    SqliteEngine.create(path).close()
    for _ in range(3):
        path.unlink()
        SqliteEngine.create(path).close()
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        engine = SqliteEngine(path)
        while engine.get([b"guard"])[0] in (None, b"1", b"2"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert len(set(engine.get([b"guard", *(b"row%d" % place for place in range(50))]))) == 1
        engine.close()
