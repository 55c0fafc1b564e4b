"""Ten minutes of load on an endpoint of two replicas: a replica killed every five seconds, two rollouts, and one rollback.

Clients ask all the time and never stop at a failure; every answer is held against the first one of the same model version to the same
request. At the end the answers in the lake are counted against those that clients got. `BEDPLATE_BENCH_FAULTS_S` makes it shorter.
There is no peer: what is asked is that nothing goes wrong.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bedplate.data.lake import Lake
from bedplate.serve.answers import TALLY_FILE, lost_answers
from bench.table import Row

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crash.small_project import ROWS, write_small_project

SPAN_S = float(os.environ.get("BEDPLATE_BENCH_FAULTS_S", "600"))
KILL_EVERY_S = 5.0
CLIENTS = 4
HUNG_S = 30.0
SEED = 20130101
SCALING = "  amounts:\n    model: amount@production\n    replicas: 2\n    rollout: {steps: [20%, 60%], every: 5s, requests: 20}\n"


@dataclass
class Clients:
    """What clients saw: answers by status or failure, answers that differ from the first of their kind, and requests that hung."""

    port: int
    seen: Counter[str] = field(default_factory=Counter)
    first: dict[tuple[str, int], float] = field(default_factory=dict)
    models: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    unexplained: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, number: int) -> None:
        """One client, until the end."""
        source = random.Random(number)
        with httpx.Client(timeout=HUNG_S, trust_env=False) as client:
            while not self.ended.is_set():
                identity = source.randrange(ROWS)
                try:
                    self._take(identity, client.post(f"http://127.0.0.1:{self.port}/predict", json={"id": identity}))
                except httpx.TimeoutException:
                    self._count("hung")
                except httpx.TransportError as error:
                    self._count(type(error).__name__)

    def _take(self, identity: int, answer: httpx.Response) -> None:
        self._count(str(answer.status_code))
        if answer.status_code != 200:
            self.unexplained += answer.status_code != 503 or "retry-after" not in answer.headers
            return
        said = answer.json()
        with self.lock:
            self.models[said["model"]] += 1
            first = self.first.setdefault((said["model"], identity), said["prediction"])
            self.wrong += not math.isclose(first, said["prediction"], rel_tol=1e-5)  # float32, and batches of other sizes

    def _count(self, what: str) -> None:
        with self.lock:
            self.seen[what] += 1


def rows() -> list[Row]:
    """What clients saw, and what was remembered."""
    with tempfile.TemporaryDirectory(prefix="bedplate-faults-") as scratch:
        folder = write_small_project(Path(scratch) / "small")
        declared = (folder / "bedplate.yaml").read_text()
        (folder / "bedplate.yaml").write_text(declared[: declared.index("endpoints:")] + "endpoints:\n" + SCALING)
        try:
            port = int(_bedplate(folder, "up")["serving"]["amounts"])
            clients, kills = Clients(port), _loaded(folder, port)
            answers, lost = _remembered(folder)
        finally:
            subprocess.run(_command("down"), cwd=folder, capture_output=True, check=False)
        clients = kills[1]
        print(f"{kills[0]} replicas killed; statuses {dict(clients.seen)}; answers by version {dict(clients.models)}", file=sys.stderr)
        return _rows(kills[0], clients, answers, lost)


def _rows(kills: int, clients: Clients, answers: int, lost: int) -> list[Row]:
    given = clients.seen["200"]
    other = sum(count for what, count in clients.seen.items() if what not in ("200", "503", "hung")) + clients.unexplained
    where = f"{SPAN_S:.0f} s, {kills} replicas killed, {len(clients.models)} versions"
    return [
        Row(f"faults: requests answered ({where})", given, ""),
        Row("faults: wrong answers", clients.wrong, "", limit=0),
        Row("faults: requests that hung", clients.seen["hung"], "", limit=0),
        Row("faults: told once to ask again (503 with Retry-After)", clients.seen["503"] - clients.unexplained, ""),
        Row("faults: other errors", other, "", limit=0),
        Row("faults: answers neither kept nor counted as lost", max(0, given - answers - lost), "", limit=0),
    ]


def _loaded(folder: Path, port: int) -> tuple[int, Clients]:
    """The load, and what is done to the endpoint meanwhile."""
    clients = Clients(port)
    threads = [threading.Thread(target=clients.ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    acts: list[tuple[float, Callable[[], Any]]] = [
        (SPAN_S * 0.2, lambda: _released(folder, 7)),
        (SPAN_S * 0.45, lambda: _released(folder, 8)),
        (SPAN_S * 0.7, lambda: _rolled_back(folder)),
    ]
    begun_s, kills, source, doing = time.monotonic(), 0, random.Random(SEED), list[threading.Thread]()
    while time.monotonic() - begun_s < SPAN_S or any(each.is_alive() for each in doing):
        time.sleep(KILL_EVERY_S)
        if acts and time.monotonic() - begun_s > acts[0][0]:
            doing.append(threading.Thread(target=acts.pop(0)[1]))
            doing[-1].start()
        kills += _killed(folder, source)
    clients.ended.set()
    for thread in threads:
        thread.join()
    return kills, clients


def _killed(folder: Path, source: random.Random) -> int:
    """Kill one replica that answers, of any version; how many were."""
    alive = []
    for file in folder.glob(".bedplate/runs/amounts-*/*/out/replica-*/port.json"):
        process = json.loads(file.read_text())["pid"]
        if Path(f"/proc/{process}").exists():
            alive.append(process)
    if not alive:
        return 0
    os.kill(source.choice(sorted(alive)), signal.SIGKILL)
    return 1


def _released(folder: Path, epochs: int) -> None:
    """A new version, brought into production and rolled out."""
    file = folder / "bedplate.yaml"
    declared = file.read_text()
    file.write_text(declared.replace(f"epochs: {epochs - 1},", f"epochs: {epochs},"))
    _bedplate(folder, "up")


def _rolled_back(folder: Path) -> None:
    """The version before, by hand; the endpoint follows."""
    _bedplate(folder, "rollback", "amount", "--reason", "the bench asked for it")


def _remembered(folder: Path) -> tuple[int, int]:
    """Answers in the lake once the endpoint has ended, and those that its processes counted as lost."""
    subprocess.run(_command("down"), cwd=folder, capture_output=True, check=True)
    lost = sum(map(lost_answers, folder.glob(f".bedplate/runs/amounts-*/*/out/replica-*/{TALLY_FILE}")))
    return Lake(folder / ".bedplate" / "lake").read("answers_amounts", None, ["id"]).num_rows, lost


def _bedplate(folder: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(_command(*words, "--json"), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"bedplate {' '.join(words)}: {done.stdout}{done.stderr}")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "bedplate.cli.main", *words]
