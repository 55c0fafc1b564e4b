"""What every launcher promises, run against each. A gap is a mark with its reason."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from bedplate.cluster.engines.local import LocalLauncher
from bedplate.cluster.engines.sim import SimLauncher
from bedplate.core.attempt import Attempt
from bedplate.core.clock import SimClock
from bedplate.core.protocols import Launcher
from cluster.rig import FOREVER, attempt_in, ended, journal_of, printed

SHORT = "print('one'); print('two')"


class Subject(Protocol):
    """A launcher under test: attempts that it can run, and how time passes for it."""

    launcher: Launcher

    def again(self) -> Launcher:
        """Another instance, as a restarted loop makes one."""

    def wait(self, condition: Callable[[], object]) -> None:
        """Let time pass until something holds."""


class Local:
    def __init__(self) -> None:
        self.launcher = LocalLauncher()

    def again(self) -> Launcher:
        return LocalLauncher()

    def wait(self, condition: Callable[[], object]) -> None:
        limit_s = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < limit_s
            time.sleep(0.01)


class Sim:
    def __init__(self) -> None:
        self.clock = SimClock()
        self.launcher = SimLauncher(self.script, self.clock)

    @staticmethod
    def script(attempt: Attempt) -> list[tuple[float, str, dict[str, Any]]]:
        after_s = 5.0 if attempt.argv[-1] == SHORT else 1e9
        return [(1.0, "progress", {"done": 1}), (after_s, "ended", {"status": "succeeded", "failure": None, "message": ""})]

    def again(self) -> Launcher:
        return SimLauncher(self.script, self.clock)

    def wait(self, condition: Callable[[], object]) -> None:
        for _ in range(100):
            if condition():
                return
            self.clock.sleep(1.0)
        raise AssertionError("it did not come")


SUBJECTS = {"local": Local, "sim": Sim}


def all_but_sim(reason: str) -> pytest.MarkDecorator:
    """A promise that a simulation does not keep, and why."""
    return pytest.mark.parametrize("subject", ["local", pytest.param("sim", marks=pytest.mark.skip(reason=reason))], indirect=True)


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return SUBJECTS[request.param]()


def begun(attempt: Attempt) -> bool:
    """Whether the attempt is at its work."""
    return bool(printed(attempt)) or "progress" in [entry.kind for entry in journal_of(attempt)]


def wait_for_work(subject: Subject, attempt: Attempt, handle: dict[str, Any]) -> None:
    subject.wait(lambda: subject.launcher.poll(handle) == "alive" and begun(attempt))


def test_rendering_starts_nothing(subject: Subject, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, SHORT, environment={"COLOR": "blue"})
    before = sorted(tmp_path.rglob("*"))
    rendered = subject.launcher.render(attempt)
    assert (rendered.argv, rendered.environment, rendered.folder) == (attempt.shim_argv, {"COLOR": "blue"}, attempt.folder)
    assert rendered == subject.launcher.render(attempt)
    assert sorted(tmp_path.rglob("*")) == before
    assert journal_of(attempt) == []


def test_a_handle_survives_as_json(subject: Subject, tmp_path: Path) -> None:
    handle = subject.launcher.submit(attempt_in(tmp_path, FOREVER))
    kept = json.loads(json.dumps(handle))
    assert kept == handle
    assert subject.launcher.poll(kept) == "alive"
    subject.launcher.cancel(kept, "cancel")
    subject.wait(lambda: subject.launcher.poll(kept) == "gone")


def test_an_attempt_is_alive_and_then_gone_with_its_end_in_the_journal(subject: Subject, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, SHORT)
    handle = subject.launcher.submit(attempt)
    seen = set()
    subject.wait(lambda: seen.add(subject.launcher.poll(handle)) or "gone" in seen)
    assert seen <= {"alive", "gone"}
    assert journal_of(attempt)[0].kind == "started"
    assert ended(attempt) == {"status": "succeeded", "failure": None, "message": ""}


def test_an_attempt_runs_once_however_often_it_is_submitted(subject: Subject, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, SHORT)
    handle = subject.launcher.submit(attempt)
    assert subject.launcher.submit(attempt) == handle
    subject.wait(lambda: subject.launcher.poll(handle) == "gone")
    assert subject.launcher.submit(attempt) == handle
    assert subject.launcher.poll(handle) == "gone"
    assert [entry.kind for entry in journal_of(attempt)].count("started") == 1


def test_two_attempts_of_a_run_are_two(subject: Subject, tmp_path: Path) -> None:
    attempts = [attempt_in(tmp_path, SHORT), attempt_in(tmp_path, SHORT, token=2)]
    handles = [subject.launcher.submit(attempt) for attempt in attempts]
    subject.wait(lambda: [subject.launcher.poll(handle) for handle in handles] == ["gone", "gone"])
    assert [ended(attempt)["status"] for attempt in attempts] == ["succeeded", "succeeded"]


def test_a_stop_ends_an_attempt_and_says_so(subject: Subject, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    handle = subject.launcher.submit(attempt)
    wait_for_work(subject, attempt, handle)
    subject.launcher.cancel(handle, "stop")
    subject.launcher.cancel(handle, "stop")
    subject.wait(lambda: subject.launcher.poll(handle) == "gone")
    assert ended(attempt)["status"] == "stopped"


def test_a_cancel_ends_an_attempt_at_once_and_without_a_word(subject: Subject, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    handle = subject.launcher.submit(attempt)
    wait_for_work(subject, attempt, handle)
    subject.launcher.cancel(handle, "cancel")
    subject.launcher.cancel(handle, "cancel")
    subject.wait(lambda: subject.launcher.poll(handle) == "gone")
    assert "ended" not in [entry.kind for entry in journal_of(attempt)]
    subject.launcher.cancel(handle, "stop")
    assert "ended" not in [entry.kind for entry in journal_of(attempt)]


def test_stop_and_cancel_are_harmless_after_a_good_end(subject: Subject, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, SHORT)
    handle = subject.launcher.submit(attempt)
    subject.wait(lambda: subject.launcher.poll(handle) == "gone")
    subject.launcher.cancel(handle, "stop")
    subject.launcher.cancel(handle, "cancel")
    assert ended(attempt)["status"] == "succeeded"


@all_but_sim("nothing is executed in a simulation, so nothing is printed")
def test_what_a_rank_printed_can_be_read(subject: Subject, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, SHORT)
    handle = subject.launcher.submit(attempt)
    subject.wait(lambda: subject.launcher.poll(handle) == "gone")
    assert list(subject.launcher.logs(attempt, 0)) == ["one", "two"]


@all_but_sim("a simulated attempt lives in the memory of the launcher that plays it")
def test_a_restarted_loop_goes_on_with_what_it_finds(subject: Subject, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    handle = subject.launcher.submit(attempt)
    other = subject.again()
    assert other.poll(handle) == "alive"
    assert other.submit(attempt) == handle
    other.cancel(handle, "cancel")
    subject.wait(lambda: subject.launcher.poll(handle) == other.poll(handle) == "gone")
