"""Tracking beside `mlflow server` with its default SQLite store: the same requests, the same client, both servers in one run.

MLflow's server runs in an environment of its own; the client is the `mlflow-skinny` of ours for both. What the client reaches at most is
measured against a server that answers at once. Does not know: how either server works.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.core.clock import SystemClock
from bedplate.core.ledger import Ledger
from bedplate.models.series import SeriesStore
from bedplate.models.tracking import drafts
from bench.peers import python_of
from bench.table import Row

PEER = ("mlflow==3.17.2", "scikit-learn")
API = "/api/2.0/mlflow/"
ROUNDS = 3
START_MS = 1_700_000_000_000
RAW_REQUESTS = 4000
CLIENT_CALLS = 400
BATCHES = 20
RUNS = 20_000
OWN_POINTS = 2_000_000
LOG_CALLS = 100_000

CLIENT = """
import sys, time
from mlflow import MlflowClient
client, calls = MlflowClient(sys.argv[1]), int(sys.argv[2])
run = client.create_run("0").info.run_id
for step in range(20):
    client.log_metric(run, "warm", step, step=step)
started = time.perf_counter()
for step in range(calls):
    client.log_metric(run, "m", step * 0.5, step=step)
print(calls / (time.perf_counter() - started))
"""
JOB = """
import time

def job(run):
    for step in range(1000):
        run.log(step=step, warm=step)
    started = time.perf_counter()
    for step in range(CALLS):
        run.log(step=step, loss=step * 0.5)
    run.log(step=0, us_a_call=(time.perf_counter() - started) / CALLS * 1e6)
"""


@dataclass
class Target:
    """A server that runs: its name, port, and how long it took until it answered, in seconds."""

    name: str
    port: int
    ready_s: float
    folder: Path


def rows(scale: float = 1.0) -> list[Row]:
    """The rows; `scale` makes every count smaller, to try the bench."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        seconds: dict[str, list[float]] = {"ours": [], "mlflow": []}
        for count in range(ROUNDS):
            for name, start in (("ours", _ours), ("mlflow", _mlflow)):
                process, target = start(folder / f"{name}-{count}")
                seconds[name].append(target.ready_s)
                _stop(process)
        found = [_row("tracking server: from start to its first answer", seconds, "s", 0.1, higher=False)]
        with _running(folder) as (ours, theirs):
            found += _logging(ours, theirs, scale)
            found += _searching(ours, theirs, scale)
        return [*found, _own_api(folder, scale), _run_log(folder, scale)]


def _row(what: str, values: dict[str, list[float]], unit: str, limit: float, *, higher: bool = True) -> Row:
    ours, peer = (statistics.median(values[name]) for name in ("ours", "mlflow"))
    spread = f"{min(values['ours']):.3g} to {max(values['ours']):.3g}"
    return Row(what, ours, unit, spread, peer, "mlflow server", limit, higher)


# -- servers ----------------------------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _start(command: Sequence[str | os.PathLike[str]], folder: Path, port: int, name: str) -> tuple[subprocess.Popen[bytes], Target]:
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()} | {"BEDPLATE_HOME": str(folder / "home")}
    with (folder / "server.log").open("wb") as log:
        started_s = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
    deadline_s = started_s + 120
    while time.perf_counter() < deadline_s:
        try:
            if _call(port, "GET", "/health")[0] == 200:
                return process, Target(name, port, time.perf_counter() - started_s, folder)
        except (OSError, http.client.HTTPException):
            time.sleep(0.005)
    raise RuntimeError((folder / "server.log").read_text())


def _ours(folder: Path) -> tuple[subprocess.Popen[bytes], Target]:
    folder.mkdir()
    (folder / "bedplate.yaml").write_text("project: bench\n")
    port = _free_port()
    return _start([sys.executable, "-m", "bedplate.cli.main", "server", "--port", str(port)], folder, port, "ours")


def _mlflow(folder: Path) -> tuple[subprocess.Popen[bytes], Target]:
    folder.mkdir()
    port = _free_port()
    python = python_of("mlflow", PEER)
    return _start([python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)], folder, port, "mlflow")


def _stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


@contextmanager
def _running(folder: Path) -> Iterator[tuple[Target, Target]]:
    ours, theirs = _ours(folder / "ours"), _mlflow(folder / "mlflow")
    try:
        yield ours[1], theirs[1]
    finally:
        for process, _ in (ours, theirs):
            _stop(process)


def _call(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text[:1] == b"{" else text
    finally:
        connection.close()


# -- logging ----------------------------------------------------------------------------------------------------------------------


def _logging(ours: Target, theirs: Target, scale: float) -> list[Row]:
    raw: dict[str, list[float]] = {"ours": [], "mlflow": []}
    batched: dict[str, list[float]] = {"ours": [], "mlflow": []}
    client: dict[str, list[float]] = {"ours": [], "mlflow": [], "at once": []}
    with _at_once() as instant:
        for _ in range(ROUNDS):
            for target in (ours, theirs):
                requests = RAW_REQUESTS if target is ours else RAW_REQUESTS // 8  # theirs takes long
                raw[target.name].append(asyncio.run(_raw(target.port, _scaled(requests, scale))))
                batched[target.name].append(_batched(target.port, _scaled(BATCHES, scale)))
            for name, port in (("ours", ours.port), ("mlflow", theirs.port), ("at once", instant)):
                client[name].append(_client(port, _scaled(CLIENT_CALLS, scale)))
    ceiling = statistics.median(client["at once"])
    reached = statistics.median(client["ours"])
    return [
        _row("log_metric, raw HTTP on 8 connections, none lost", raw, "requests/s", 10.0),
        _row("log_metric, the real client", client, "calls/s", 4.0),
        Row(
            "log_metric, the real client, beside a server that answers at once",
            reached,
            "calls/s",
            f"{min(client['ours']):.0f} to {max(client['ours']):.0f}",
            ceiling,
            "answers at once",
            0.8,
            True,
        ),
        _row("log_batch of 1,000", batched, "points/s", 5.0),
    ]


def _scaled(count: int, scale: float) -> int:
    return max(8, int(count * scale))


async def _raw(port: int, count: int) -> float:
    """Requests a second on 8 connections; every point is counted afterwards."""
    run = _call(port, "POST", f"{API}runs/create", {"experiment_id": "0", "start_time": 1})[1]["run"]["info"]["run_id"]

    head = f"POST {API}runs/log-metric HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"

    async def log(key: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for step in range(count // 8):
            data = json.dumps({"run_id": run, "key": key, "value": step * 0.5, "timestamp": START_MS + step, "step": step}).encode()
            while True:
                try:
                    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
                    answer = await reader.readuntil(b"\r\n\r\n")
                    break
                except (asyncio.IncompleteReadError, ConnectionError):  # the server hung up in between: as any client, try again
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert b" 200 " in answer.partition(b"\r\n")[0], answer
            sizes = [line.partition(b":")[2] for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            await reader.readexactly(int(sizes[0]))
        writer.close()

    started_s = time.perf_counter()
    await asyncio.gather(*(log(f"m{number}") for number in range(8)))
    rate = count // 8 * 8 / (time.perf_counter() - started_s)
    for number in range(8):
        points = _call(port, "GET", f"{API}metrics/get-history?run_id={run}&metric_key=m{number}")[1]["metrics"]
        assert len(points) == count // 8, "a point is lost"
    return rate


def _batched(port: int, count: int) -> float:
    run = _call(port, "POST", f"{API}runs/create", {"experiment_id": "0", "start_time": 1})[1]["run"]["info"]["run_id"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    spent_s = 0.0
    for batch in range(count):
        points = [{"key": f"m{n % 10}", "value": n * 0.5, "timestamp": START_MS + n, "step": batch * 1000 + n} for n in range(1000)]
        data = json.dumps({"run_id": run, "metrics": points})
        started_s = time.perf_counter()
        connection.request("POST", f"{API}runs/log-batch", data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        spent_s += time.perf_counter() - started_s
        assert answer.status == 200
    connection.close()
    return count * 1000 / spent_s


def _client(port: int, calls: int) -> float:
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    command = [sys.executable, "-W", "ignore", "-c", CLIENT, f"http://127.0.0.1:{port}", str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=300)
    return float(done.stdout.splitlines()[-1])


AT_ONCE = """
import asyncio, json, sys
INFO = {"run_id": "r" * 32, "run_uuid": "r" * 32, "experiment_id": "0", "status": "RUNNING"}
RUN = json.dumps({"run": {"info": INFO, "data": {}}}).encode()
class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""
    def data_received(self, data):
        self.data += data
        head, found, rest = self.data.partition(b"\\r\\n\\r\\n")
        sizes = [line.partition(b":")[2] for line in head.split(b"\\r\\n") if line.lower().startswith(b"content-length:")]
        if found and len(rest) >= int(sizes[0] if sizes else 0):
            body, self.data = (RUN if b"runs/create" in head else b"{}"), b""
            head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
            self.transport.write(head + body)
async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""


@contextmanager
def _at_once() -> Iterator[int]:
    """The port of a server that answers at once."""
    port = _free_port()
    process = subprocess.Popen([sys.executable, "-c", AT_ONCE, str(port)])
    try:
        while True:
            try:
                _call(port, "GET", "/health")
                break
            except OSError:
                time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait(20)


# -- searching --------------------------------------------------------------------------------------------------------------------


def _searching(ours: Target, theirs: Target, scale: float) -> list[Row]:
    """Both have the same runs, put into their stores directly; the requests and the answers are the same."""
    count = _scaled(RUNS, scale)
    rng = random.Random(1)
    values = [(f"{number:032x}", START_MS + number, rng.random(), rng.random()) for number in range(count)]
    _fill_ours(ours.folder, values)
    _fill_mlflow(theirs.folder, values)
    found = []
    for what, body in (
        ("search_runs over 20,000 runs, 200 found by a metric", {"filter": "metrics.acc > 0.99", "order_by": ["metrics.acc DESC"]}),
        (
            "search_runs over 20,000 runs, a metric filter, a page of 1,000",
            {"filter": "metrics.acc > 0.5", "order_by": ["metrics.loss ASC"]},
        ),
    ):
        times: dict[str, list[float]] = {"ours": [], "mlflow": []}
        answers: dict[str, list[str]] = {}
        for _ in range(ROUNDS + 1):
            for target in (ours, theirs):
                started_s = time.perf_counter()
                told = _call(target.port, "POST", f"{API}runs/search", {"experiment_ids": ["0"], "max_results": 1000, **body})[1]
                times[target.name].append((time.perf_counter() - started_s) * 1000)
                answers[target.name] = [run["info"]["run_id"] for run in told["runs"]]
        assert answers["ours"] == answers["mlflow"], "the answers differ"
        found.append(_row(what, {name: each[1:] for name, each in times.items()}, "ms", 0.1, higher=False))
    return found


def _fill_ours(folder: Path, values: Sequence[tuple[str, int, float, float]]) -> None:
    ledger = Ledger(folder / ".bedplate" / "ledger.db", "bench", SystemClock())
    for start in range(0, len(values), 2000):
        made = []
        for run, at_ms, acc, loss in values[start : start + 2000]:
            made.append(drafts.run_logged(run, "0", "Default", name=run[-8:], user="bench", start_ms=at_ms))
            latest = drafts.latest({"acc": (acc, at_ms, 1), "loss": (loss, at_ms, 1)})
            made.append(
                drafts.run_changed(run, status="FINISHED", end_ms=at_ms + 5, params={"lr": f"{acc:.3f}", "depth": "3"}, metrics=latest)
            )
        ledger.append(made)
    ledger.close()


def _fill_mlflow(folder: Path, values: Sequence[tuple[str, int, float, float]]) -> None:
    database = sqlite3.connect(next(folder.glob("*.db")), timeout=60)
    with database:
        database.executemany(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, "
            "source_version, lifecycle_stage, artifact_uri, experiment_id) "
            "VALUES (?, ?, 'UNKNOWN', '', '', 'bench', 'FINISHED', ?, ?, '', 'active', 'mlflow-artifacts:/0', 0)",
            [(run, run[-8:], at_ms, at_ms + 5) for run, at_ms, _, _ in values],
        )
        for place, key in ((2, "acc"), (3, "loss")):
            points = [(key, each[place], each[1], each[0]) for each in values]
            for table in ("metrics", "latest_metrics"):
                columns = "key, value, timestamp, run_uuid, step, is_nan"
                database.executemany(f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, 1, 0)", points)
        params = [(key, value, each[0]) for each in values for key, value in (("lr", f"{each[2]:.3f}"), ("depth", "3"))]
        database.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", params)
        names = [("mlflow.runName", each[0][-8:], each[0]) for each in values]
        database.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", names)
    database.close()


# -- our own interface ------------------------------------------------------------------------------------------------------------


def _own_api(folder: Path, scale: float) -> Row:
    store, count = SeriesStore(folder / "series"), _scaled(OWN_POINTS, scale)
    rates = []
    for number in range(ROUNDS):
        steps, values = list(range(count)), [0.5] * count
        started_s = time.perf_counter()
        store.append_columns(f"run-{number}", 1, "bench", 1, "loss", steps, steps, values)
        rates.append(count / (time.perf_counter() - started_s))
    shutil.rmtree(folder / "series")
    spread = f"{min(rates):.3g} to {max(rates):.3g}"
    return Row(
        "series store: points of one process, durable", statistics.median(rates), "points/s", spread, limit=1e6, higher_is_better=True
    )


def _run_log(folder: Path, scale: float) -> Row:
    project = folder / "job"
    project.mkdir()
    (project / "bedplate.yaml").write_text("project: bench\njobs:\n  log: {function: log.py:job}\n")
    (project / "log.py").write_text(JOB.replace("CALLS", str(_scaled(LOG_CALLS, scale))))
    environment = {**os.environ, "BEDPLATE_HOME": str(folder / "home")}
    found = []
    for _ in range(ROUNDS):
        command = [sys.executable, "-m", "bedplate.cli.main", "run", "log", "--force", "log", "--json"]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["runs"][-1]["metrics"]["us_a_call"])
    return Row("run.log in a training loop", statistics.median(found), "us a call", f"{min(found):.3g} to {max(found):.3g}", limit=20.0)
