"""What every launcher promises, run against each. A gap is a mark with its reason."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from bedplate.cluster.engines.kubernetes import KubernetesLauncher
from bedplate.cluster.engines.local import LocalLauncher
from bedplate.cluster.engines.sim import SimLauncher
from bedplate.cluster.engines.slurm import SlurmLauncher
from bedplate.cluster.engines.ssh import SshLauncher
from bedplate.core.attempt import Attempt
from bedplate.core.clock import SimClock
from bedplate.core.pools_file import Capacity, DeclaredPool
from bedplate.core.protocols import Launcher
from cluster.rig import FOREVER, attempt_in, ended, journal_of, printed
from servers.testbed.openssh import HOSTS, OpenSsh

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


class Ssh(Local):
    """Three hosts, which are this machine by three names; `shared` ones have its files, others get what they need."""

    def __init__(self, server: OpenSsh, shared: bool = False) -> None:
        self._server, self._shared = server, shared
        self._made: list[SshLauncher] = []
        self.launcher = self.again()

    def again(self) -> Launcher:
        folder, config = str(self._server.directory / "pool"), str(self._server.config)
        pool = DeclaredPool(
            engine="ssh", hosts=HOSTS, capacity=Capacity(), python=sys.executable, folder=folder, shared=self._shared, ssh_config=config
        )
        self._made.append(SshLauncher(pool, self._server.directory))
        return self._made[-1]

    def close(self) -> None:
        for launcher in self._made:
            launcher.close()


class Queued(Local):
    """Slurm's queue, whose nodes have this machine's files."""

    def __init__(self) -> None:
        self.launcher = self.again()

    def again(self) -> Launcher:
        return SlurmLauncher(DeclaredPool(engine="slurm", partition="main", capacity=Capacity(machines=3)), Path())


class Clustered(Local):
    """A real control plane of Kubernetes, whose node runs pods as processes."""

    def __init__(self) -> None:
        self.launcher = self.again()

    def again(self) -> Launcher:
        places = {"image": "none", "claim": "project", "mount": "/tmp", "python": sys.executable}
        return KubernetesLauncher(DeclaredPool(engine="kubernetes", context="testbed", capacity=Capacity(), **places), Path())


SUBJECTS = ("local", "sim", "ssh", "slurm", "kubernetes")


def all_but_sim(reason: str) -> pytest.MarkDecorator:
    """A promise that a simulation does not keep, and why."""
    kept = [pytest.param(name, marks=pytest.mark.skip(reason=reason)) if name == "sim" else name for name in SUBJECTS]
    return pytest.mark.parametrize("subject", kept, indirect=True)


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "ssh":
        made = Ssh(request.getfixturevalue("openssh"))
        yield made
        made.close()
    elif request.param == "slurm":
        cluster = request.getfixturevalue("slurm")
        patch = request.getfixturevalue("monkeypatch")
        patch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        yield Queued()
    elif request.param == "kubernetes":
        cluster, _ = request.getfixturevalue("kubernetes"), request.getfixturevalue("kubelet")
        patch = request.getfixturevalue("monkeypatch")
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield Clustered()
    else:
        yield {"local": Local, "sim": Sim}[request.param]()


NOTICE = "Kubernetes has no kill without a notice before it, so an attempt that is cancelled may say that it was stopped"


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
    assert next(entry.kind for entry in journal_of(attempt) if entry.writer == "shim") == "started"
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


@pytest.mark.parametrize(
    "subject", ["local", "sim", "ssh", "slurm", pytest.param("kubernetes", marks=pytest.mark.skip(reason=NOTICE))], indirect=True
)
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


NOTHING_RUNS = "nothing is executed in a simulation"
GANG = """
import os, signal, sys, time
print(os.environ["RANK"], os.environ["WORLD_SIZE"], flush=True)
while len(os.listdir(sys.argv[1])) < 3:  # all three have begun
    open(os.path.join(sys.argv[1], os.environ["RANK"]), "w").close()
    time.sleep(0.01)
if os.environ["RANK"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.5)  # as peers that notice
"""
FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]], start_new_session=True)
print("up", flush=True)
time.sleep(600)
"""


def seen_here(word: str) -> list[int]:
    """Processes with this word on their command line, those in namespaces of their own included."""
    return [process.pid for process in psutil.process_iter(["cmdline"]) if word in (process.info["cmdline"] or ())]


def run_to_end(subject: Subject, attempt: Attempt) -> dict[str, Any]:
    handle = subject.launcher.submit(attempt)
    subject.wait(lambda: subject.launcher.poll(handle) == "gone")
    return ended(attempt)


@all_but_sim(NOTHING_RUNS)
def test_a_gang_begins_whole_and_ends_whole_when_one_of_it_is_killed(
    subject: Subject, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    met = tmp_path_factory.mktemp("met")
    attempt = attempt_in(tmp_path, argv=(sys.executable, "-c", GANG, str(met)), processes=3)
    end = run_to_end(subject, attempt)
    assert (end["failure"], end["message"]) == ("worker_lost", "rank 1 was killed by SIGKILL")
    assert [list(subject.launcher.logs(attempt, rank)) for rank in range(3)] == [[f"{rank} 3"] for rank in range(3)]
    assert seen_here(str(met)) == []


@all_but_sim(NOTHING_RUNS)
def test_lines_are_whole_and_in_order_and_an_exit_code_is_told(subject: Subject, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, "import sys\nfor number in range(20000): print(number, 'x' * 60)\nsys.exit(7)")
    end = run_to_end(subject, attempt)
    assert (end["status"], end["failure"]) == ("failed", "user_error")
    assert end["message"].startswith("rank 0 ended with exit code 7")
    assert list(subject.launcher.logs(attempt, 0)) == [f"{number} {'x' * 60}" for number in range(20000)]


LINUXPROC = "this test bed's Slurm knows processes by parentage (proctrack/linuxproc), and loses those that left; proctrack/cgroup does not"


@pytest.mark.parametrize(
    "subject", ["local", "ssh", "kubernetes", pytest.param("slurm", marks=pytest.mark.skip(reason=LINUXPROC))], indirect=True
)
def test_a_cancel_ends_also_what_left_the_session(subject: Subject, tmp_path: Path) -> None:
    word = f"child-of-{tmp_path.name}"
    attempt = attempt_in(tmp_path, argv=(sys.executable, "-c", FAMILY, word))
    handle = subject.launcher.submit(attempt)
    wait_for_work(subject, attempt, handle)
    assert len(seen_here(word)) >= 2
    subject.launcher.cancel(handle, "cancel")
    subject.wait(lambda: subject.launcher.poll(handle) == "gone")
    subject.wait(lambda: not seen_here(word))


@pytest.mark.parametrize("subject", ["ssh", "slurm", "kubernetes"], indirect=True)
def test_the_environment_here_does_not_travel(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCESS_KEY", "hunter2")
    attempt = attempt_in(tmp_path, "import os; print(os.environ.get('ACCESS_KEY'), os.environ['COLOR'])", environment={"COLOR": "blue"})
    run_to_end(subject, attempt)
    assert list(subject.launcher.logs(attempt, 0)) == ["None blue"]
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()] == []
