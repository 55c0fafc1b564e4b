"""A whole project under a simulated clock and a simulated launcher: what the tests of the flow share.

Every step of the project is a script that says what its attempt would have written; `contents` decides what it makes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bedplate.cluster.engines.sim import Faults, SimLauncher
from bedplate.core.attempt import Attempt, Identity, boot_id, start_ticks
from bedplate.core.clock import SimClock
from bedplate.core.digest import digest, digest_file
from bedplate.core.event import Event
from bedplate.core.record import LaunchRecord, RunRecord
from bedplate.core.versions import Output, Version
from bedplate.flow.loop import Loop, hosted
from bedplate.flow.workspace import Workspace, open_workspace, request_launch

Told = list[tuple[float, str, dict[str, Any]]]
START_S = 1.7e9
FOREVER_S = 1e9

SHOP = """
project: shop
jobs:
  make: {command: "true", outputs: [data/rows.csv], max_restarts: 2, resources: {cpus: 0.2}}
  other: {command: "sleep 1", resources: {cpus: 0.2}}
  fit:
    function: fit.py:fit
    inputs: {spine: rows, columns: [shop], label: rows.amount, features: [sums]}
    params: {lr: 0.1}
    resources: {cpus: 0.2}
datasets:
  rows: {source: data/rows.csv, key: [id], known_at: at, columns: {id: int, shop: string, at: timestamp, amount: float}}
features:
  sums: {from: rows, entity: shop, windows: [1h], aggregates: {amount: [mean]}}
models:
  price: {from: fit, evaluate: fit.py:evaluate, predict: fit.py:predict, promote: {to: production, when: ["rmse <= 5"]}}
endpoints:
  prices: {model: price@production}
"""
CODE = "def fit(run, lr=0.1): ...\ndef evaluate(version, feed): ...\ndef predict(version, rows): ...\n"
STEPS = ("make", "other", "rows", "sums", "fit.inputs", "fit", "price", "prices.features", "prices")


def ended(status: str = "succeeded", failure: str | None = None, message: str = "") -> tuple[float, str, dict[str, Any]]:
    """The last entry of a script, a second after the start."""
    return (1.0, "ended", {"status": status, "failure": failure, "message": message})


def checkpoint(step: int, at_s: float = 0.3) -> tuple[float, str, dict[str, Any]]:
    return (at_s, "checkpoint", {"step": step, "location": f"checkpoints/{step}", "digest": digest(step)})


def evaluation(attempt: Attempt, rmse: float, promoted: bool) -> dict[str, Any]:
    """What a gate's worker says."""
    inputs = {name: f"{values['name']}@{values['number']}" for name, values in attempt.inputs.items()}
    return {
        "model": attempt.step,
        "alias": "production",
        "candidate": inputs[attempt.step],
        "production": inputs.get("production"),
        "pinned_set": inputs["fit.inputs"],
        "metrics": {"rmse": rmse},
        "production_metrics": None,
        "decision": {"promoted": promoted, "checks": [], "why": "promoted: rmse <= 5" if promoted else "not promoted: rmse <= 5"},
    }


class HereLauncher(SimLauncher):
    """A simulated launcher whose attempts count as living on this machine: the process `stands_for` stands for all their shims."""

    stands_for = 0

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        identity = Identity(boot_id(), self.stands_for, start_ticks(self.stands_for) or 0, attempt.token)
        return {**super().submit(attempt), **asdict(identity)}


class World:
    """A project in `folder`, its workspace, clock and launcher. `scripts` replaces what a step's attempts do, by step."""

    def __init__(self, folder: Path, project: str = SHOP, faults: Faults | None = None, seed: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.clock = SimClock(START_S)
        self.contents: dict[str, str] = {}
        self.rmse = 1.0
        self.scripts: dict[str, Callable[[Attempt], Told]] = {}
        self.attempts: list[Attempt] = []
        self.process = subprocess.Popen(["sleep", "600"])
        self.simulate(HereLauncher(self.script, self.clock, seed, faults))
        (folder / "fit.py").write_text(CODE)
        self.declare(project)

    def simulate(self, launcher: HereLauncher) -> None:
        """Run everything with this launcher from here on."""
        launcher.stands_for = self.process.pid
        self.sim = launcher

    def declare(self, project: str) -> None:
        """Write the project file and open the project (again)."""
        if hasattr(self, "workspace"):
            self.workspace.close()
        (self.folder / "bedplate.yaml").write_text(project)
        self.workspace: Workspace = open_workspace(self.folder, clock=self.clock)

    def script(self, attempt: Attempt) -> Told:
        """What an attempt tells: what `scripts` has for its step, or its usual outputs and a good end."""
        self.attempts.append(attempt)
        return self.scripts.get(attempt.step, self.usual)(attempt)

    def usual(self, attempt: Attempt) -> Told:
        if attempt.kind == "endpoint":
            return [(0.5, "ready", {"port": 8000 + attempt.token}), (FOREVER_S, "ended", {"status": "stopped"})]
        if attempt.kind == "gate":
            return [(0.5, "evaluation", evaluation(attempt, self.rmse, self.rmse <= 5)), ended()]
        return [*((0.5, "output", output.to_json()) for output in self.outputs(attempt)), ended()]

    def outputs(self, attempt: Attempt) -> list[Output]:
        """The usual outputs of an attempt, really written."""
        content = self.contents.get(attempt.step, "1")
        if attempt.kind == "job":
            return [self._file(name, content) for name in attempt.spec["outputs"]]
        path = attempt.out / "made"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        name, kind = (attempt.spec["model"], "model") if attempt.kind == "train" else (attempt.step, "table")
        return [Output(name, kind, digest([name, content]), str(path.relative_to(attempt.state)))]

    def _file(self, name: str, content: str) -> Output:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return Output(name, "file", digest_file(path), name)

    @contextmanager
    def loop(self) -> Iterator[Loop]:
        """The loop, hosted by this process over the simulated launcher."""
        with hosted(self.workspace) as loop:
            assert loop is not None
            loop.launchers = {"local": self.sim}
            yield loop

    def ask(self, mode: str, *targets: str, force: tuple[str, ...] = ()) -> str:
        return request_launch(self.workspace, mode, targets, force)

    def tick(self, loop: Loop, until: Callable[[], bool], step_s: float = 0.4) -> None:
        """Tick, and move the clock, until something holds."""
        for _ in range(400):
            loop.tick()
            if until():
                return
            self.clock.sleep(step_s)
        raise AssertionError("it never came to that")

    def drive(self, mode: str = "up", *targets: str, force: tuple[str, ...] = ()) -> LaunchRecord:
        """Launch and drive to the end."""
        launch = self.ask(mode, *targets, force=force)
        with self.loop() as loop:
            self.tick(loop, lambda: self.launch(launch).status != "open")
        return self.launch(launch)

    def launch(self, launch: str) -> LaunchRecord:
        return self.workspace.refresh().launches[launch]

    def run(self, run: str) -> RunRecord:
        return self.workspace.refresh().run(run)

    def ran(self, launch: str) -> list[str]:
        """The steps that a launch ran, in the order in which they began."""
        return [run.step for run in self.workspace.refresh().runs.values() if run.launch == launch]

    def events(self, kind: str, subject: str | None = None) -> list[Event]:
        return [event for event in self.workspace.ledger.read() if event.kind == kind and subject in (None, event.subject)]

    def close(self) -> None:
        self.workspace.close()
        self.process.kill()
        self.process.wait()


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """All entries of an attempt's journal."""
    return [json.loads(line) for path in sorted((folder / "journal").glob("*.jsonl")) for line in path.read_text().splitlines()]


def attempt(folder: Path, step: str, kind: str, spec: dict[str, Any], **changes: Any) -> Attempt:
    """An attempt of a step of the project in `folder`, its own folder made, for a worker that is called in this process."""
    state = folder / ".bedplate"
    run = f"{step}-{1 + len(list((state / 'runs').glob(f'{step}-*')))}"
    own = state / "runs" / run / "1"
    own.mkdir(parents=True)
    made = Attempt(run, 1, step, kind, str(own), str(folder), str(state), str(folder), spec, {}, ("true",), ("true",))
    return replace(made, **changes)


def said(attempt: Attempt, kind: str) -> list[dict[str, Any]]:
    """The bodies of the entries of one kind in an attempt's journal."""
    return [entry["body"] for entry in read_journal(attempt.path) if entry["kind"] == kind]


def as_inputs(*attempts: Attempt) -> dict[str, dict[str, Any]]:
    """The outputs of attempts, as the inputs of another one."""
    found = {}
    for made in attempts:
        for body in said(made, "output"):
            version = Version(run=made.run, number=1, created_at_s=0.0, **body)
            found[version.name] = {**version.to_json(), "path": str(Path(made.state) / version.location)}
    return found
