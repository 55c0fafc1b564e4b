"""The endpoint step with a router: replicas that are killed under load, a new version that takes over by steps, one that is taken back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt, read_attempt
from bedplate.core.journal import JournalReader
from bedplate.core.settings import child_environment
from bedplate.flow.opened import OpenProject

PATIENCE_S = 60
FAILS = """
calls = []

def predict(version, rows):
    calls.append(1)
    if len(calls) > 1:  # the first call warms up
        raise ValueError
    return [0.0] * len(rows)
"""


def until(holds: Callable[[], Any]) -> Any:
    """What `holds` gives, once it is something."""
    end_s = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    return found


@dataclass
class Served:
    """A router that runs as its worker does, without a loop."""

    attempt: Attempt
    process: subprocess.Popen[bytes]

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [dict(entry.body) for entry in JournalReader(self.attempt.path).read() if entry.kind == kind]

    def replicas(self) -> list[int]:
        """Process numbers of replicas that answer or did."""
        return [json.loads(file.read_text())["pid"] for file in sorted(self.attempt.out.glob("replica-*/port.json"))]

    def ready(self) -> int:
        def told() -> list[dict[str, Any]]:
            assert self.process.poll() is None, self.attempt.path
            return self.said("ready")

        return int(until(told)[-1]["port"])

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


@contextmanager
def router(attempt: Attempt) -> Iterator[Served]:
    attempt.path.mkdir(parents=True)
    write_json(attempt.path / ATTEMPT_FILE, attempt.to_json())
    environment = child_environment({"OMP_NUM_THREADS": "1"})
    process = subprocess.Popen([sys.executable, "-m", "bedplate.flow.worker", attempt.folder], env=environment)
    try:
        yield Served(attempt, process)
    finally:
        process.kill()
        process.wait()


@dataclass
class Load:
    """Clients that ask all the time: what was answered, by status, and by model."""

    port: int
    statuses: dict[int | str, int] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)
    wrong: list[Any] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def end(self) -> None:
        """Ask no more. To be called while something answers."""
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def ask(self) -> None:
        with httpx.Client(timeout=20) as client:
            while not self.ended.is_set():
                try:
                    answer = client.post(f"http://127.0.0.1:{self.port}/predict", json={"id": 599})
                except httpx.TimeoutException:
                    self.late.append("timeout")
                    continue
                except httpx.TransportError as error:
                    self._count(type(error).__name__)
                    continue
                self._count(answer.status_code)
                if answer.status_code == 200:
                    self.models.add(answer.json()["model"])
                    self.wrong += [] if isinstance(answer.json()["prediction"], float) else [answer.json()]
                elif "retry-after" not in answer.headers:
                    self.wrong.append(answer.text)

    def _count(self, what: int | str) -> None:
        self.statuses[what] = self.statuses.get(what, 0) + 1


@contextmanager
def load(port: int, clients: int = 3) -> Iterator[Load]:
    asked = Load(port)
    asked.threads += [threading.Thread(target=asked.ask) for _ in range(clients)]
    for thread in asked.threads:
        thread.start()
    try:
        yield asked
    finally:
        asked.end()


@pytest.fixture
def make(served: tuple[Path, OpenProject]) -> Callable[..., Attempt]:
    """An attempt of an endpoint of its own name, with the model of the served one, and what is declared of scaling."""
    _, project = served
    (run,) = project.runs("amounts")
    done = read_attempt(project._workspace.attempt_folder(run.id, run.state.token))

    def made(name: str, number: int, scaling: dict[str, Any], **changes: Any) -> Attempt:
        inputs = {
            f"{name}.features": {**done.inputs["amounts.features"], "name": f"{name}.features"},
            "amount": {**done.inputs["amount"], **changes},
        }
        kept = {key: value for key, value in done.inputs.items() if key not in ("amounts.features", "amount")}
        own = Path(done.state) / "runs" / f"{name}-{number}" / "1"
        spec = {**done.spec, "port": 0, "scaling": scaling}
        return replace(done, run=f"{name}-{number}", step=name, folder=str(own), spec=spec, inputs={**kept, **inputs})

    return made


def test_a_killed_replica_costs_no_request_and_is_replaced(make: Callable[..., Attempt]) -> None:
    with router(make("killed", 1, {"replicas": 2})) as served:
        port = served.ready()
        until(lambda: len(served.replicas()) == 2)
        with load(port) as asked:
            for _ in range(2):
                before = served.replicas()
                os.kill(before[0], signal.SIGKILL)
                until(lambda before=before: served.replicas()[0] != before[0])
        assert asked.statuses.keys() == {200}, asked.statuses
        assert not asked.wrong + asked.late
        both = 'bedplate_endpoint_replicas{endpoint="killed",model="amount@1"} 2'
        until(lambda: both in httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines())
        assert [notice["failure"] for notice in served.said("notice")] == ["worker_lost"] * 2
        assert served.end() == 0
    for pid in served.replicas():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_new_version_takes_over_by_steps_and_is_the_only_one_at_the_port(make: Callable[..., Attempt]) -> None:
    rollout = {"rollout": {"steps": ["20%", "60%"], "every": "500ms", "requests": 5}}
    with router(make("rolled", 1, {"replicas": 1})) as old:
        port = old.ready()
        with load(port) as asked, router(make("rolled", 2, rollout)) as new:
            assert new.ready() == port
            until(lambda: any(said["outcome"] == "done" for said in new.said("rollout")))
            assert old.end() == 0
            answered = asked.statuses[200]
            until(lambda: asked.statuses[200] > answered + 10)
            asked.end()
            stages = [(said["what"], said["step"], said["share"]) for said in new.said("rollout")]
            assert stages == [("began", 1, 0.2), ("stepped", 2, 0.6), ("ended", 2, 1.0)]
        assert asked.statuses.keys() == {200}, asked.statuses
        assert not asked.wrong + asked.late


def test_a_version_that_fails_is_taken_back_and_the_one_before_has_the_port_again(make: Callable[..., Attempt], tmp_path: Path) -> None:
    failing = make("back", 2, {"rollout": {"steps": ["50%", "100%"], "every": "1m", "requests": 5}})
    (tmp_path / "fails.py").write_text(FAILS)
    failing = replace(failing, code=str(tmp_path), spec={**failing.spec, "predict": "fails.py:predict"})
    with router(make("back", 1, {"replicas": 1})) as old:
        port = old.ready()
        with load(port, 2) as asked, router(failing) as new:
            new.ready()
            said = until(lambda: [said for said in new.said("rollout") if said["outcome"] == "back"])
            assert "requests failed, more than 1%" in said[0]["why"]
            assert new.end() == 0
            answered = asked.statuses[200]
            until(lambda: asked.statuses[200] > answered + 10)
            asked.end()
        assert asked.statuses.keys() == {200}, asked.statuses
        assert not asked.wrong + asked.late


def test_an_idle_endpoint_has_no_replica_and_holds_the_next_request_until_it_has_one(make: Callable[..., Attempt]) -> None:
    with router(make("idle", 1, {"scale": {"min": 0, "max": 2, "idle": "500ms", "settle": "200ms"}})) as served:
        url = f"http://127.0.0.1:{served.ready()}"
        none = 'bedplate_endpoint_replicas{endpoint="idle",model="amount@1"} 0'
        until(lambda: none in httpx.get(f"{url}/metrics").text.splitlines())
        answer = httpx.post(f"{url}/predict", json={"id": 599}, timeout=PATIENCE_S)
        assert (answer.status_code, answer.json()["model"]) == (200, "amount@1")
        texts = [said["text"] for said in served.said("message")]
        assert texts[0] == "1 -> 0 replicas: nothing was asked for 500ms"
        assert texts[1].startswith("0 -> 1 replicas: 1 requests under way")
        assert not served.said("notice"), "what is told to end has not died"


def test_when_the_router_of_a_new_version_is_killed_the_one_before_takes_the_port(make: Callable[..., Attempt]) -> None:
    rollout = {"rollout": {"steps": ["50%", "100%"], "every": "1m"}}
    with router(make("lost", 1, {"replicas": 1})) as old:
        url = f"http://127.0.0.1:{old.ready()}/predict"
        with router(make("lost", 2, rollout)) as new:
            new.ready()
            until(lambda: new.said("rollout"))
            assert httpx.post(url, json={"id": 599}, timeout=20).status_code == 200
            os.kill(new.process.pid, signal.SIGKILL)
            new.process.wait()

        def answered() -> bool:
            try:
                return httpx.post(url, json={"id": 599}, timeout=20).json()["model"] == "amount@1"
            except httpx.TransportError:
                return False

        until(answered)
        assert old.end() == 0
