"""Counters: what the system says of this process and its host grows as it should."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bedplate.train.counters import HostCounters, RunDelay

LINUX = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts this")


def test_processor_time_grows_with_work() -> None:
    counters = HostCounters()
    before = counters()
    end_s = time.process_time() + 0.05
    while time.process_time() < end_s:
        sum(range(1000))
    grown = {name: value - before[name] for name, value in counters().items()}
    assert grown["cpu_s"] >= 0.04
    assert grown["wall_s"] >= grown["cpu_s"] * 0.5
    assert all(value >= 0 for value in grown.values())


@LINUX
def test_bytes_that_were_asked_for_are_counted(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(os.urandom(1 << 20))
    counters = HostCounters()
    before = counters()["read_bytes"]
    (tmp_path / "data").read_bytes()
    assert counters()["read_bytes"] - before >= 1 << 20


@LINUX
def test_time_without_a_processor_is_counted_where_threads_compete() -> None:
    here = os.sched_getaffinity(0)
    child = os.fork()
    if child == 0:  # another process on the one processor that this one may use
        os.sched_setaffinity(0, {min(here)})
        end_s = time.monotonic() + 5
        while time.monotonic() < end_s:
            pass
        os._exit(0)
    try:
        os.sched_setaffinity(0, {min(here)})
        delay = RunDelay()
        before_s = delay()
        end_s = time.monotonic() + 0.3
        while time.monotonic() < end_s:
            pass
        assert delay() - before_s > 0.02
        delay.close()
        assert delay() == 0.0, "nothing is read once it is closed"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.sched_setaffinity(0, here)
