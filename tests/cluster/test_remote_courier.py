"""What comes from a host is put together whole, and is taken only for what it may be; the rest is tested with real hosts (`test_ssh`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.cluster.remote_courier import Courier, Place, _frames, _whole, read_place
from bedplate.cluster.remote_host import Host, by_load
from bedplate.cluster.remote_ssh import Shell
from bedplate.core.errors import BedplateError
from cluster.rig import attempt_in, journal_of

HOST = Host(Shell("a"), "pool", shared=True)
PLACE = Place("placed", "a", "/there", "python3")


def encoded(frames: list[tuple[str, bytes]]) -> bytes:
    return b"".join(json.dumps({"file": name, "at": 0, "bytes": len(data)}).encode() + b"\n" + data for name, data in frames)


@given(
    frames=st.lists(st.tuples(st.sampled_from(["logs/rank-0.log", "journal/shim.jsonl"]), st.binary(max_size=40)), max_size=6),
    cuts=st.lists(st.integers(min_value=1, max_value=30), min_size=1, max_size=30),
)
def test_frames_are_whole_however_the_stream_is_cut(frames: list[tuple[str, bytes]], cuts: list[int]) -> None:
    stream, buffer, found = encoded(frames), bytearray(), []
    while stream:
        size = cuts[len(found) % len(cuts)]
        buffer += stream[:size]
        stream = stream[size:]
        found += list(_whole(buffer))
    assert [(head["file"], data) for head, data in found] == frames
    assert buffer == b""


def test_a_frame_that_a_broken_connection_cut_off_is_not_taken() -> None:
    whole = encoded([("logs/rank-0.log", b"one\n"), ("logs/rank-0.log", b"two\n")])
    script = f"import sys; sys.stdout.buffer.write({whole[:-2]!r})"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as stream:
        assert [data for _, data in _frames(stream)] == [b"one\n"]


def courier(tmp_path: Path) -> Courier:
    return Courier(attempt_in(tmp_path), [HOST], ["a"])


def taken(each: Courier, name: str, at: int, data: bytes) -> None:
    head: dict[str, Any] = {"file": name, "at": at, "bytes": len(data)}
    each._take(HOST, PLACE, head, data)


def test_bytes_are_written_where_they_stand_so_twice_does_no_harm(tmp_path: Path) -> None:
    ours = courier(tmp_path)
    for at, data in ((0, b"one\n"), (4, b"two\n"), (0, b"one\n"), (4, b"two\n"), (8, b"three\n")):
        taken(ours, "logs/rank-0.log", at, data)
    assert ours.attempt.log(0).read_bytes() == b"one\ntwo\nthree\n"


@pytest.mark.parametrize(
    "name", ["attempt.json", "../../../x", "logs/../attempt.json", "/etc/passwd", "journal/.hidden", "logs/a/b", "remote.json", ""]
)
def test_a_host_can_write_no_file_here_but_logs_and_journals(tmp_path: Path, name: str) -> None:
    ours = courier(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(BedplateError, match="a file that nobody asked for"):
        taken(ours, name, 0, b"{}\n")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_line_that_a_kill_has_torn_is_taken_along_and_means_nothing(tmp_path: Path) -> None:
    ours = courier(tmp_path)
    torn = b'{"n":1,"at":0,"ki\n{"n":2,"at":1.0,"kind":"progress","body":{"done":1}}\n[]\n'
    taken(ours, "journal/worker.jsonl", 0, torn)
    assert [entry.number for entry in journal_of(ours.attempt)] == [2]


def test_an_output_outside_the_project_is_not_fetched(tmp_path: Path) -> None:
    ours = courier(tmp_path)
    line = {"n": 1, "at": 0, "kind": "output", "body": {"kind": "file", "location": "../outside"}}
    with pytest.raises(BedplateError):
        ours._declared([line])
    assert journal_of(ours.attempt) == []


def test_an_attempt_of_which_nothing_is_known_has_no_place_yet(tmp_path: Path) -> None:
    ours = courier(tmp_path)
    assert read_place(ours.attempt.path) == Place()
    ours._keep(PLACE)
    assert read_place(ours.attempt.path) == PLACE


def test_the_least_busy_host_comes_first_and_an_excluded_one_only_where_there_is_no_other() -> None:
    hosts = [Host(Shell(name), "pool") for name in "abc"]
    assert [host.name for host in by_load(hosts, (), {"a": 2, "b": 1})] == ["c", "b", "a"]
    assert [host.name for host in by_load(hosts, ("a", "c"), {"b": 9})] == ["b"]
    assert [host.name for host in by_load(hosts, ("a", "b", "c"), {"a": 1})] == ["b", "c", "a"]
