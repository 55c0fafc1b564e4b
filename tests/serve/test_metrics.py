"""Histograms, percentiles of a window, and the text that Prometheus reads, as Prometheus' own checker sees it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from bedplate.serve.metrics import BOUNDS_S, KEPT, Latencies, family
from bedplate.serve.router import Router


def test_a_histogram_counts_up_to_each_bound_and_all_at_the_end() -> None:
    latencies = Latencies()
    for latency_s in (0.001, 0.002, 0.2, 60.0):
        latencies.add(0.0, latency_s)
    samples = [(suffix, labels.get("le"), value) for suffix, labels, value in latencies.samples({"model": "a@1"})]
    assert samples[:3] == [("_bucket", "0.001", 1), ("_bucket", "0.0025", 2), ("_bucket", "0.005", 2)]
    assert samples[-4:] == [("_bucket", "30.0", 3), ("_bucket", "+Inf", 4), ("_sum", None, 60.203), ("_count", None, 4)]
    assert len(samples) == len(BOUNDS_S) + 3


def test_the_slowest_percent_is_that_of_the_window() -> None:
    latencies = Latencies()
    assert latencies.p99_s(0.0) is None
    for number in range(200):
        latencies.add(float(number), 5.0 if number < 100 else number / 1000)
    assert latencies.p99_s(0.0) == 5.0
    assert latencies.p99_s(100.0) == 0.199
    assert latencies.p99_s(500.0) is None
    for _ in range(2 * KEPT):
        latencies.add(1000.0, 0.25)
    assert latencies.p99_s(0.0) == 0.25, "only so many are kept"


def test_a_label_may_hold_anything() -> None:
    text = family("up", "gauge", "Whether.", [("", {"name": 'a"b\\c\nd'}, 1), ("", {}, 0.5)])
    assert text == '# HELP up Whether.\n# TYPE up gauge\nup{name="a\\"b\\\\c\\nd"} 1\nup 0.5\n'


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed here")
def test_prometheus_finds_nothing_wrong_with_what_a_router_says() -> None:
    router = Router("delays", "delay@3", [], hold=1, deadline_s=1)
    router.total["own"].add(200, 0.0, 0.02)
    router.total["own"].add(500, 0.0, 0.3)
    checked = subprocess.run(["promtool", "check", "metrics"], input=router.exposition(), text=True, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
