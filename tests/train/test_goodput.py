"""The goodput ledger: every second of a run is in exactly one bucket."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.journal import JournalReader
from bedplate.train.goodput import BUCKETS, AttemptTimes, Goodput, Row, best_interval_s, fold, gains, in_words, rows_of
from bedplate.train.timers import Timers
from train.samples import attempt_in, wait_until

Entries = list[tuple[float, dict[str, Any]]]


class Rank:
    """One rank's process under a clock of the test: real timers, and what they write with the time of writing."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        self.entries: Entries = []
        self.start()

    def start(self) -> None:
        self.timers = Timers(lambda: self.now_s)

    def step(self, number: int, **spans_s: float) -> None:
        for name, duration_s in spans_s.items():
            with self.timers.span(name):
                self.now_s += duration_s
        self.timers.end_step(number)
        self.write()

    def write(self, last: bool = False) -> None:
        self.entries += [(self.now_s, row) for row in self.timers.drain(last)]


def trained(start_s: float, first: int, last: int, start_up_s: float = 2.0) -> Rank:
    rank = Rank(start_s)
    rank.now_s += start_up_s
    rank.timers.begin()
    for number in range(first, last + 1):
        rank.step(number, input=0.01, compute=0.06, communication=0.02, optimizer=0.01)
    rank.write(last=True)
    return rank


def test_a_run_without_trouble() -> None:
    rank = trained(1002.0, 1, 100)
    spent = fold(1000.0, 1015.0, [AttemptTimes(1001.0, 1014.5, False, {"rank-0": rows_of(rank.entries)}, checkpoints=1)])
    assert spent.wall_s == 15.0
    assert spent.seconds == pytest.approx(
        {
            "compute": 7.0, "communication": 2.0, "input_wait": 1.0, "checkpoint_stall": 0.0,
            "lost_work": 0.0, "recovery": 0.0, "start_up": 3.0, "idle": 2.0,
        }, abs=1e-3,
    )  # fmt: skip
    assert spent.share == pytest.approx(7 / 15, abs=1e-3)
    assert (spent.steps, spent.failures, spent.checkpoints) == (100, 0, 1)
    assert spent.gains[0].bucket == "start_up"
    assert {gain.bucket for gain in spent.gains} == {"start_up", "communication", "idle", "input_wait"}


def test_steps_done_again_after_a_restart_are_lost_work_and_what_lies_between_is_recovery() -> None:
    first, second = trained(1000.0, 1, 60), trained(1012.0, 41, 100)
    spent = fold(
        1000.0,
        1020.0,
        [
            AttemptTimes(1000.0, 1010.0, True, {"rank-0": rows_of(first.entries)}, checkpoints=2),
            AttemptTimes(1011.0, 1020.0, False, {"rank-0": rows_of(second.entries)}),
        ],
    )
    assert spent.seconds["lost_work"] == pytest.approx(20 * 0.1, abs=2e-3)
    assert spent.seconds["recovery"] == pytest.approx(2.0 + 1.0 + 1.0 + 2.0, abs=2e-3), "unnoticed, between attempts, and to the next step"
    assert spent.seconds["compute"] == pytest.approx(100 * 0.07, abs=2e-3)
    assert spent.failures == 1
    assert sum(spent.seconds.values()) == pytest.approx(spent.wall_s)


def test_a_restart_in_place_begins_with_a_start_in_the_same_journal() -> None:
    rank = trained(1000.0, 1, 50)
    rank.now_s += 1.5  # a peer died; nobody wrote
    rank.start()
    rank.now_s += 0.5
    rank.timers.begin()
    for number in range(46, 101):
        rank.step(number, compute=0.1)
    rank.write(last=True)
    spent = fold(1000.0, rank.now_s, [AttemptTimes(1000.0, rank.now_s, False, {"rank-0": rows_of(rank.entries)}, restarts=1)])
    assert spent.seconds["recovery"] == pytest.approx(2.0, abs=1e-3)
    assert spent.seconds["lost_work"] == pytest.approx(0.5, abs=1e-3)
    assert spent.failures == 1


def test_a_run_that_never_started_only_waited() -> None:
    assert fold(1000.0, 1030.0, []).seconds["idle"] == 30.0
    assert in_words(fold(1000.0, 1000.0, [])) == ["nothing has happened yet"]


def test_a_run_that_lasts_counts_up_to_its_newest_row() -> None:
    rank = trained(1000.0, 1, 40)
    spent = fold(999.0, None, [AttemptTimes(1000.0, None, False, {"rank-0": rows_of(rank.entries)})])
    assert spent.wall_s == pytest.approx(rank.now_s - 999.0)
    assert sum(spent.seconds.values()) == pytest.approx(spent.wall_s)


def test_user_code_that_calls_backward_itself_counts_as_compute() -> None:
    rank = Rank(1000.0)
    rank.timers.begin()
    for number in range(1, 21):
        rank.now_s += 0.1
        rank.step(number, input=0.01)
    spent = fold(1000.0, rank.now_s, [AttemptTimes(1000.0, rank.now_s, False, {"rank-0": rows_of(rank.entries)})])
    assert spent.seconds["compute"] > 0.9 * spent.wall_s - 1.1


def test_ranks_are_averaged() -> None:
    waits, works = Rank(1000.0), Rank(1000.0)
    for number in range(1, 31):
        waits.step(number, compute=0.05, communication=0.05)
        works.step(number, compute=0.1)
    for rank in (waits, works):
        rank.write(last=True)
    rows = {"rank-0": rows_of(waits.entries), "rank-1": rows_of(works.entries)}
    spent = fold(1000.0, 1003.0, [AttemptTimes(1000.0, 1003.0, False, rows)])
    assert spent.seconds["communication"] == pytest.approx(0.75, abs=2e-3)
    assert spent.seconds["compute"] == pytest.approx(2.25, abs=2e-3)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_buckets_sum_to_the_wall_time_whatever_happens(seed: int) -> None:
    """Generated timelines: several attempts, ranks, deaths that lose what was not drained, restarts in place, clocks that are a bit off."""
    draw = random.Random(seed)
    now_s = created_s = 1000.0
    attempts, furthest = [], 0
    for _ in range(draw.randint(0, 4)):
        started_s = now_s + draw.uniform(0, 3)
        rows, ended_s = {}, started_s
        first = draw.randint(max(1, furthest - 20), furthest + 1)
        for rank_number in range(draw.randint(0, 3)):
            rank = Rank(started_s + draw.uniform(0, 2))
            begin = first
            for _ in range(draw.randint(1, 3)):
                rank.timers.begin()
                last = begin + draw.randint(0, 60)
                for step in range(begin, last + 1):
                    names = draw.sample(["input", "compute", "communication", "optimizer", "checkpoint"], draw.randint(0, 5))
                    rank.now_s += draw.uniform(0, 0.01)
                    rank.step(step, **{name: draw.uniform(0, 0.2) for name in names})
                furthest = max(furthest, last)
                if draw.random() < 0.5:
                    rank.write(last=True)
                rank.now_s += draw.uniform(0, 2)
                begin = draw.randint(max(1, last - 10), last + 1)
                rank.start()
            skew_s = draw.uniform(-0.05, 0.05)
            rows[f"rank-{rank_number}"] = rows_of([(at_s + skew_s, body) for at_s, body in rank.entries])
            ended_s = max(ended_s, rank.now_s)
        now_s = ended_s + draw.uniform(0, 1)
        attempts.append(AttemptTimes(started_s, now_s, draw.random() < 0.5, rows, draw.randint(0, 5), draw.randint(0, 2)))
    spent = fold(created_s, now_s + draw.uniform(0, 1), attempts)
    assert set(spent.seconds) == set(BUCKETS)
    assert all(seconds >= 0 for seconds in spent.seconds.values())
    assert sum(spent.seconds.values()) == pytest.approx(spent.wall_s, rel=1e-9, abs=1e-9)


def test_the_best_interval_balances_stalls_and_lost_steps() -> None:
    assert best_interval_s(stall_s=2.0, mtbf_s=10_000.0) == 200.0
    often = dict.fromkeys(BUCKETS, 0.0) | {"checkpoint_stall": 100.0, "compute": 900.0}
    (gain,) = [each for each in gains(often, 1000.0, checkpoints=200, failures=0) if each.bucket == "checkpoint_stall"]
    assert "less often" in gain.fix and 95 < gain.gain_s < 100
    seldom = dict.fromkeys(BUCKETS, 0.0) | {"checkpoint_stall": 1.0, "lost_work": 400.0, "compute": 599.0}
    (gain,) = [each for each in gains(seldom, 1000.0, checkpoints=1, failures=2) if each.bucket == "lost_work"]
    assert "more often" in gain.fix and 200 < gain.gain_s < 400


def test_rows_that_were_written_together_follow_one_another() -> None:
    body = {"step": 5, "steps": 5, "spans": {"compute": [500_000]}, "since": 100_000}
    tail = {"step": 5, "steps": 0, "spans": {"host": [100_000]}, "since": 0}
    stepped, after = rows_of([(10.0, body), (10.001, tail)])
    assert (stepped.start_s, stepped.end_s) == pytest.approx((9.401, 9.901))
    assert (after.start_s, after.end_s) == pytest.approx((9.901, 10.001))


def test_the_words_have_every_bucket_and_the_whole() -> None:
    spent = Goodput(100.0, {**dict.fromkeys(BUCKETS, 0.0), "compute": 60.0, "idle": 40.0}, 10, 0, 0, ())
    lines = in_words(spent)
    assert lines[0] == "60.0% of 1 min 40 s was compute that counts"
    assert [line.split()[0] for line in lines[1:]] == list(BUCKETS)
    assert str(spent).splitlines() == lines
    assert spent.to_json()["goodput"] == 0.6


def test_a_row_is_cut_where_the_attempt_ended() -> None:
    row = Row(1000.0, 1004.0, 40, 40, {"compute": 4.0})
    spent = fold(1000.0, 1002.0, [AttemptTimes(1000.0, 1002.0, False, {"rank-0": [row]})])
    assert spent.seconds["compute"] == pytest.approx(2.0)


def test_a_real_run_of_two_ranks_accounts_for_its_wall_time(hosts: Any, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, world_size=2, params={"epochs": 6})
    before_s = time.time()
    hosts.start(attempt)
    wait_until((attempt.path / "exit").exists)
    after_s = time.time()
    assert (attempt.path / "exit").read_text() == "0"
    rows: dict[str, Entries] = {}
    for entry in JournalReader(attempt.path).read():
        if entry.kind == "timing":
            rows.setdefault(entry.writer, []).append((entry.at_s, dict(entry.body)))
    assert set(rows) == {"rank-0", "rank-1"}, "every rank writes its own"
    spent = fold(before_s, after_s, [AttemptTimes(before_s, after_s, False, {name: rows_of(each) for name, each in rows.items()})])
    assert sum(spent.seconds.values()) == pytest.approx(after_s - before_s, rel=0.01)
    assert spent.steps == 60
    for each in rows.values():
        covered_s = sum(row.end_s - row.start_s for row in rows_of(each))
        assert covered_s <= after_s - before_s
        assert rows_of(each)[0].begins
    assert spent.seconds["compute"] > 0 and spent.seconds["start_up"] > 0
