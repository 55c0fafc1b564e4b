"""Every verdict is planted, in the simulator and, some, in real runs; healthy runs are called healthy. The sweep is bench/doctor.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from bedplate.train.doctor.measured import Reference
from bedplate.train.doctor.rules import RULES, VERDICTS, diagnose
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
    ],
)
def test_planted_in_a_real_run_it_is_named(planter: Planter, verdict: str, plant: dict[str, float]) -> None:
    """Real ranks on a machine that may be busy: what its processors are kept from is a true finding, and not the one that was planted."""
    run = planter.run(compute_s=0.05, steps=24, **plant)
    findings = [finding for finding in diagnose(run) if finding.verdict != "host_contention"]
    assert findings[0].verdict == verdict
    assert 0.5 * 0.05 < findings[0].gain_share * run.mean(run.step_s) < 2 * 0.05
