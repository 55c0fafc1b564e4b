"""Seeded schedules of what goes wrong between a loop and its machines: lost nodes, loops that end, connections that flap for a day."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from bedplate.cluster.engines.sim import Faults
from bedplate.core.attempt import Attempt
from bedplate.core.protocols import Liveness
from flow.world import HereLauncher, Told, World, checkpoint, ended

POOLS = "pools: {farm: {engine: sim, capacity: {cores: 8, memory_gb: 64, accelerators: 4, accelerator: H100}}}\n"
GANGS = """
project: shop
jobs:
  left: {command: "true", max_restarts: 80, resources: {workers: 2, cpus: 0.1, memory_gb: 0.1, accelerators: "H100:2"}}
  right: {command: "true", max_restarts: 80, resources: {workers: 2, cpus: 0.1, memory_gb: 0.1, accelerators: "H100:1"}}
  small: {command: "true", max_restarts: 80, resources: {cpus: 0.1, memory_gb: 0.1}}
"""
HOURS = (1, 2, 3, 5, 8, 13, 21, 23)
LONG = "project: shop\njobs:\n" + "".join(
    f'  h{hours}: {{command: "true", max_restarts: 9, resources: {{cpus: 0.1, memory_gb: 0.1}}}}\n' for hours in HOURS
)
DAY_S, TICK_S = 24 * 3600.0, 60.0


def schedules(config: pytest.Config) -> range:
    return range(int(config.getoption("--schedules")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", schedules(metafunc.config))


class Strict(HereLauncher):
    """A launcher that knows of every attempt that lives, and takes no second one of a run and no device that is in use."""

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        others = [played.attempt for folder, played in self._live.items() if folder != attempt.folder and self._play(played)]
        assert [other.run for other in others if other.run == attempt.run] == [], f"{self}: doubled {attempt.run}"
        held = {device for other in others for device in other.accelerators}
        assert held.isdisjoint(attempt.accelerators), f"{self}: {attempt.run} was given what is held"
        assert len(attempt.accelerators) % attempt.processes == 0, f"{self}: a part of a gang"
        return super().submit(attempt)


def long_script(attempt: Attempt) -> Told:
    return [*(checkpoint(step, at_s=step * 0.7) for step in range(1, 4)), (3.0, *ended()[1:])]


def test_no_gang_is_doubled_or_started_by_halves_whatever_is_lost(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path / "shop", GANGS)
    (world.folder / "pools.yaml").write_text(POOLS)
    world.simulate(Strict(long_script, world.clock, seed, Faults(preempted=0.2, lost=0.4, duplicated=0.3, delay_s=1.0)))
    source = random.Random(seed)
    launch = world.ask("run", "left", "right", "small")
    while world.launch(launch).status == "open":
        with world.loop() as loop:  # which ends, and another one takes over
            loop.launchers = {"local": world.sim, "sim": world.sim}
            for _ in range(source.randrange(1, 40)):
                loop.tick()
                world.clock.sleep(source.uniform(0.05, 2.0))
                if world.launch(launch).status != "open":
                    break
    runs = {run.id: run for run in world.workspace.refresh().runs.values()}
    world.close()
    assert {run.status for run in runs.values()} == {"succeeded"}
    assert len(world.sim.submitted) == len(set(world.sim.submitted))
    for run in runs.values():
        assert [token for name, token in world.sim.submitted if name == run.id] == list(range(1, run.state.token + 1))


class Flapping(Strict):
    """The same behind a control connection that is up for ten minutes and down for five, in the mean."""

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        source, at_s = random.Random(self.seed), self._clock.now()
        self.cuts: list[tuple[float, float]] = []
        while at_s < self._clock.now() + 2 * DAY_S:
            begins_s = at_s + source.expovariate(1 / 600)
            at_s = begins_s + source.expovariate(1 / 300)
            self.cuts.append((begins_s, at_s))
        self.waiting: dict[str, Attempt] = {}
        self.asked_in_vain = 0

    @property
    def cut(self) -> bool:
        return any(begins_s <= self._clock.now() < ends_s for begins_s, ends_s in self.cuts)

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        self.waiting[attempt.folder] = attempt
        self._reach()
        return {"folder": attempt.folder, "token": attempt.token}

    def poll(self, handle: Mapping[str, Any]) -> Liveness:
        self._reach()
        if self.cut or handle["folder"] in self.waiting:
            self.asked_in_vain += 1
            return "unknown"
        return super().poll(handle)

    def cancel(self, handle: Mapping[str, Any], how: Literal["stop", "cancel"]) -> None:
        raise AssertionError(f"{self}: a healthy run was told to {how}")

    def _reach(self) -> None:
        while self.waiting and not self.cut:
            super().submit(self.waiting.pop(next(iter(self.waiting))))


def hours_of(attempt: Attempt) -> Told:
    return [(3600.0 * int(attempt.step.removeprefix("h")), *ended()[1:])]


@pytest.mark.parametrize("day", [0])
def test_a_day_of_a_flapping_connection_kills_nothing_and_doubles_nothing(tmp_path: Path, day: int) -> None:
    world = World(tmp_path / "shop", LONG)
    flapping = Flapping(hours_of, world.clock, day)
    world.simulate(flapping)
    began_s = world.clock.now()
    launch = world.ask("run", *(f"h{hours}" for hours in HOURS))
    with world.loop() as loop:
        while world.launch(launch).status == "open" and world.clock.now() < began_s + 2 * DAY_S:
            loop.tick()
            world.clock.sleep(TICK_S)
    runs = list(world.workspace.refresh().runs.values())
    world.close()
    assert flapping.asked_in_vain > 1000
    assert [(run.status, run.state.token) for run in runs] == [("succeeded", 1)] * len(HOURS)
    assert sorted(flapping.submitted) == sorted((run.id, 1) for run in runs)
