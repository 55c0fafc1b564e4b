"""Every verdict is planted, in the simulator and, some, in real runs; healthy runs are called healthy. The sweep is bench/doctor.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.train.doctor.measured import Measured, Profile, Reference
from bedplate.train.doctor.rules import RULES, VERDICTS, Finding, diagnose
from bedplate.train.doctor.steps import work_of
from bedplate.train.timers import SPANS
from train.planted import Planter
from train.timelines import PLANTS, Scenario, clean, simulate


@pytest.mark.parametrize("verdict", PLANTS)
def test_what_was_planted_is_named_first_with_its_gain(verdict: str) -> None:
    for seed in range(6):
        planted, healthy = PLANTS[verdict](seed)
        timeline = simulate(planted)
        run = timeline.measured()
        first = diagnose(run)[0]
        gained_s = timeline.step_s - simulate(healthy).step_s
        assert gained_s / timeline.step_s > 0.08, "the plant itself costs something"
        assert first.verdict == verdict, f"seed {seed}: {first}"
        assert first.gain_share * run.mean(run.step_s) == pytest.approx(gained_s, rel=0.3), f"seed {seed}"
        assert any(letter.isdigit() for letter in first.evidence)


def test_healthy_runs_are_bound_by_compute() -> None:
    for seed in range(20):
        (finding,) = diagnose(simulate(clean(seed)).measured())
        assert (finding.verdict, finding.gain_s) == ("compute", 0.0)


def test_every_rule_is_planted_and_has_its_words() -> None:
    assert set(PLANTS) == set(RULES)
    assert set(VERDICTS) == {*RULES, "compute"}


def test_a_straggler_is_named_by_its_rank_and_a_slow_loader_of_one_rank_by_its() -> None:
    (first, *_) = diagnose(simulate(Scenario(3, data=4, slow={2: 1.4})).measured())
    assert first.verdict == "straggler" and first.evidence.startswith("rank 2 works")
    (first, *_) = diagnose(simulate(Scenario(3, data=1, loader_s=0.02)).measured())
    assert first.verdict == "input" and "on rank" not in first.evidence


def test_two_causes_are_both_named_the_larger_first() -> None:
    scenario = Scenario(3, data=4, slow={2: 1.6}, loader_s=0.012)
    assert [finding.verdict for finding in diagnose(simulate(scenario).measured())] == ["straggler", "input", "compute"]


def test_storage_is_told_from_processor_time() -> None:
    run = simulate(Scenario(3, data=2, loader_s=0.03)).measured()
    slow_disk = replace(run, counters={"storage_bytes": np.array([3e6, 3e6]), "read_bytes": np.array([3e6, 3e6])})
    told = diagnose(slow_disk)[0]
    assert "from storage at" in told.evidence and "MB/s would keep up" in told.evidence
    assert "faster storage" in told.next
    cached = replace(run, counters={"storage_bytes": np.zeros(2), "read_bytes": np.array([3e6, 3e6])})
    assert "none of it from storage" in diagnose(cached)[0].evidence
    assert "storage gave next to nothing" in diagnose(cached)[0].next


def test_what_is_usual_is_no_gain() -> None:
    scenario = Scenario(3, data=4, link_s=0.02)
    run = simulate(scenario).measured()
    assert diagnose(run)[0].verdict == "communication"
    usual = replace(run, reference=Reference(communication_s=0.0195, source="in fit-3"))
    assert diagnose(usual)[0].verdict == "compute"


def test_few_failures_make_checkpoints_rare_and_many_make_them_often() -> None:
    scenario = Scenario(3, data=1, checkpoint_every=20, checkpoint_s=0.3, steps=400)
    run = simulate(scenario).measured()
    assert diagnose(run)[0].verdict == "checkpoint_stalls"
    fragile = replace(run, reference=Reference(mtbf_s=4.0))
    assert diagnose(fragile)[0].verdict == "compute", "with a failure every few seconds this is the right interval"


def test_a_gain_that_is_chance_is_not_told() -> None:
    spiky = Scenario(3, data=1, loader_s=0.004, loader_every=150, steps=160)
    assert diagnose(simulate(spiky).measured())[0].verdict == "compute"


def run_of(*ranks: dict[str, float], stretches: int = 12, **fields: Any) -> Measured:
    """Stretches of ten steps each, all alike; milliseconds of each span of each rank."""
    one = np.array([[rank.get(name, 0.0) / 1e3 for name in SPANS] for rank in ranks])
    count = len(ranks)
    placed = {"stage": np.zeros(count, np.int64), "replica": np.arange(count), "delay": np.zeros((stretches, count))}
    return Measured(np.tile(one, (stretches, 1, 1)), np.full(stretches, 10), **{**placed, **fields})


def stages(*compute_ms: float, step_ms: float, **fields: Any) -> Measured:
    """One pipeline; what a rank does not compute it waits."""
    ranks = [{"compute": each, "communication": step_ms - each} for each in compute_ms]
    return run_of(*ranks, stage=np.arange(len(ranks)), replica=np.zeros(len(ranks), np.int64), **fields)


def named(run: Measured, verdict: str) -> Finding:
    (found,) = [finding for finding in diagnose(run) if finding.verdict == verdict]
    return found


def verdicts(run: Measured) -> list[str]:
    return [finding.verdict for finding in diagnose(run)]


ONE_LATE = run_of({"compute": 40, "input": 10}, {"compute": 40, "communication": 10})
LAUNCHING = Profile(2000, 10e-6, 0.005)
MOVING = Profile(10, 1e-6, 0.03, memory_s=0.02, chain=4.0)


@pytest.mark.parametrize(
    ("run", "verdict", "gain_ms", "step_ms", "evidence", "following"),
    [
        (run_of({"compute": 40, "input": 10}), "input", 10, 50, "a step waits 10 ms of 50 ms for its batch", "read ahead"),
        (ONE_LATE, "input", 10, 50, "for its batch on rank 0", "read ahead"),
        (
            run_of(*[{"compute": 40, "communication": 20}] * 2, {"compute": 60}),
            *("straggler", 20, 60, "rank 2 works 60 ms a step, its peers 40 ms", "without the machine of rank 2"),
        ),
        (
            run_of({"compute": 30, "host": 20}, {"compute": 40, "communication": 10}),
            *("straggler", 10, 50, "rank 0 works 50 ms a step, its peers 40 ms", "rank 0"),
        ),
        (
            run_of(*[{"compute": 40, "communication": 10}] * 2),
            *("communication", 10, 50, "still waits 10 ms a step for the link", "larger buckets"),
        ),
        (
            stages(40, 80, step_ms=90, micro_batches=4),
            *("stage_imbalance", 15, 90, "stage 0 40 ms, stage 1 80 ms of compute", "off stage 1: with even stages each has 60 ms"),
        ),
        (
            stages(40, 40, step_ms=60, micro_batches=2),
            *("bubbles", 15, 60, "2 stages and 2 micro-batches leave 33% of a step empty", "into 8 micro-batches"),
        ),
        (
            stages(40, 40, step_ms=50, micro_batches=2, stages_per_rank=2),
            *("bubbles", 7.5, 50, "2 stages and 2 micro-batches leave 20% of a step empty", "into 8 micro-batches"),
        ),
        (
            run_of({"compute": 40, "checkpoint": 10}, checkpoints=6, reference=Reference(mtbf_s=1000.0)),
            *("checkpoint_stalls", 9.5, 50, "6 checkpoints stopped the steps for 0.2 s each, one every 1 s", "one every 20 s loses least"),
        ),
        (
            run_of({"compute": 50}, {"compute": 40, "communication": 10}, delay=np.tile([0.01, 0.0], (12, 1))),
            *("host_contention", 10, 50, "rank 0 was ready to run but had no processor for 10 ms a step", "processors of their own"),
        ),
        (
            run_of({"compute": 50}, profile=LAUNCHING),
            *("launch_bound", 15, 50, "2,000 kernels a step run 5 ms, and launching them takes 20 ms of 50 ms (10 us each)", "in a graph"),
        ),
        (
            run_of({"compute": 50}, profile=replace(LAUNCHING, overlaps=False)),
            *("launch_bound", 20, 50, "launching them takes 20 ms", "fewer, larger kernels"),
        ),
        (
            run_of({"compute": 50}, profile=MOVING),
            *("memory_bandwidth", 15, 50, "20 ms of 30 ms in kernels only move elements, in chains of 4", "fuse them"),
        ),
    ],
)
def test_gain_evidence_and_advice_are_those_worked_out_by_hand(
    run: Measured, verdict: str, gain_ms: float, step_ms: float, evidence: str, following: str
) -> None:
    found = named(run, verdict)
    assert found.gain_share == pytest.approx(gain_ms / step_ms)
    assert found.gain_s == pytest.approx(120 * gain_ms / 1e3), "of all 120 steps"
    assert evidence in found.evidence and following in found.next
    assert found.to_json() == vars(found)


@pytest.mark.parametrize(
    ("run", "absent"),
    [
        (run_of({"compute": 40, "input": 10}, reference=Reference(input_s=0.01)), "input"),
        (run_of({"compute": 40, "communication": 10}), "communication"),
        (run_of({"compute": 50}), "straggler"),
        (stages(40, 80, step_ms=90, micro_batches=4), "straggler"),
        (run_of({"compute": 50}, {"compute": 40, "communication": 10}, delay=np.tile([0.01, 0.0], (12, 1))), "straggler"),
        (run_of(*[{"compute": 40, "communication": 20}] * 2, {"compute": 60}), "stage_imbalance"),
        (stages(40, 40, step_ms=60, micro_batches=2), "stage_imbalance"),
        (run_of({"compute": 40, "checkpoint": 10}, reference=Reference(mtbf_s=1000.0)), "checkpoint_stalls"),
        (run_of({"compute": 40, "checkpoint": 10}, checkpoints=6, reference=Reference(mtbf_s=2.4)), "checkpoint_stalls"),
        (run_of({"compute": 50}, profile=replace(LAUNCHING, kernel_s=0.021)), "launch_bound"),
        (run_of({"compute": 50}, profile=replace(MOVING, chain=1.0)), "memory_bandwidth"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_could_be_mistaken_for_a_bottleneck_is_not_named(run: Measured, absent: str) -> None:
    assert absent not in verdicts(run)
    assert verdicts(run)[-1] == "compute"


def test_a_gain_below_the_threshold_is_not_worth_a_word() -> None:
    assert verdicts(run_of({"compute": 92.6, "input": 7.4})) == ["compute"]
    assert verdicts(run_of({"compute": 92.4, "input": 7.6})) == ["input", "compute"]


def test_of_the_link_only_what_is_more_than_usual_counts() -> None:
    usual = Reference(communication_s=0.006, source="in fit-3")
    run = run_of(*[{"compute": 40, "communication": 10}] * 2, reference=usual)
    assert named(run, "communication").gain_share == pytest.approx(4 / 50)
    assert "6 ms are usual (in fit-3)" in named(run, "communication").evidence
    assert verdicts(replace(run, reference=replace(usual, communication_s=0.0065))) == ["compute"], "7% are left"


def test_a_rank_is_named_for_its_batches_only_where_the_others_wait_much_less() -> None:
    for other_ms, told in ((4.9, True), (5.1, False)):
        run = run_of({"compute": 40, "input": 10}, {"compute": 40, "input": other_ms, "communication": 10 - other_ms})
        assert ("on rank 0" in named(run, "input").evidence) == told


def test_the_rate_that_storage_lacks_is_told() -> None:
    run = replace(ONE_LATE, counters={"storage_bytes": np.array([3e6, 1e6]), "read_bytes": np.array([3e6, 1e6])})
    assert "3 MB a step come from storage at 300 MB/s, and 75 MB/s would keep up" in named(run, "input").evidence


def test_interrupts_are_told_where_they_were_counted() -> None:
    run = run_of({"compute": 50}, delay=np.full((12, 1), 0.01))
    assert "interrupted" not in named(run, "host_contention").evidence
    counted = replace(run, counters={"switches": np.array([3.0])})
    assert named(counted, "host_contention").evidence.endswith("interrupted 3 times a step")


@pytest.mark.parametrize(
    ("input_ms", "told"),
    [([12, 10, 11, 9, 10, 8], ["input", "compute"]), ([60, 0, 0, 0, 0, 0], ["compute"]), ([0, 24, 0, 20, 0, 16], ["compute"])],
)
def test_a_gain_must_be_there_through_the_whole_run(input_ms: Sequence[float], told: list[str]) -> None:
    """All of them wait 10 ms a step on average."""
    run = run_of({"compute": 40}, stretches=6)
    run.spans[:, 0, SPANS.index("input")] = np.array(input_ms) / 1e3
    assert verdicts(run) == told


def test_stretches_count_by_their_steps() -> None:
    run = replace(run_of({"compute": 40, "input": 10}, stretches=2), steps=np.array([30, 10]))
    run.spans[1] = run.spans[0] * 1.2
    found = named(run, "input")
    assert found.gain_s == pytest.approx(30 * 0.010 + 10 * 0.012)
    assert found.gain_share == pytest.approx(0.2)


def test_what_is_left_names_the_part_of_a_step_that_computes() -> None:
    (found,) = diagnose(run_of({"compute": 45, "optimizer": 3, "host": 2}))
    assert found.evidence.startswith("96% of a step of 50 ms is forward, backward and the optimizer")
    assert (found.gain_s, found.gain_share) == (0.0, 0.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(1, 50), st.floats(0, 50), st.floats(0, 10)), min_size=2, max_size=5), st.floats(0, 20), st.randoms())
def test_findings_are_in_order_within_the_step_and_alike_for_any_order_and_unit_of_time(
    ranks: list[tuple[float, float, float]], link_ms: float, random: Any
) -> None:
    step_ms = max(sum(each) for each in ranks) + link_ms
    given_ = [dict(zip(("compute", "input", "host"), each, strict=True)) | {"communication": step_ms - sum(each)} for each in ranks]
    run = run_of(*given_)
    findings = diagnose(run)
    gains = [finding.gain_s for finding in findings]
    assert gains == sorted(gains, reverse=True)
    assert all(0.075 <= finding.gain_share < 1 for finding in findings[:-1]) and findings[-1].verdict == "compute"
    slower = diagnose(replace(run, spans=run.spans * 4))
    assert [finding.gain_s for finding in slower] == pytest.approx([4 * gain for gain in gains])
    random.shuffle(given_)
    assert sorted(finding.gain_s for finding in diagnose(run_of(*given_))) == pytest.approx(sorted(gains), abs=1e-9)


@pytest.fixture(scope="module")
def planter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planter]:
    made = Planter(tmp_path_factory.mktemp("planted"))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("verdict", "plant"),
    [
        ("input", {"loader_s": 0.05}),
        ("straggler", {"slow_rank": 1, "slow_s": 0.05}),
        ("communication", {"link_s": 0.05}),
        ("checkpoint_stalls", {"stall_s": 0.1, "checkpoint_every_s": 0.08, "world_size": 1}),  # after every second step
    ],
)
def test_planted_in_a_real_run_it_is_named(planter: Planter, verdict: str, plant: dict[str, Any]) -> None:
    """Real ranks on a machine that may be busy: what its processors are kept from is a true finding, and not the one that was planted.

    How near the gain comes is measured by `make bench`, on a quiet machine.
    """
    run = planter.run(compute_s=0.05, steps=24, **plant)
    findings = [finding for finding in diagnose(run) if finding.verdict != "host_contention"]
    assert findings[0].verdict == verdict
    assert 0 < findings[0].gain_share < 1


def test_an_oversized_last_stage_of_a_real_pipeline_is_named(planter: Planter) -> None:
    """As in a job whose usual communication is known from an earlier run: sends between processes of a busy machine take their time."""
    run = planter.run(micro_batches=8, block_s=0.006, last_s=0.018, steps=24)
    usual = Reference(communication_s=run.mean(work_of(run).link_s), source="in fit-3")
    findings = [finding for finding in diagnose(replace(run, reference=usual)) if finding.verdict != "host_contention"]
    assert findings[0].verdict == "stage_imbalance"
    assert "move layers off stage 1" in findings[0].next
    assert 0 < findings[0].gain_share < 0.5  # the two stages differ by half of the longer
