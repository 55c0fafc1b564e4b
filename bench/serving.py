"""Requests a second of an endpoint beside Ray Serve, BentoML, LitServe and `mlflow models serve`: same models, same client (`wrk`).

Two models: one that gives back what it got, and a small real one (two layers of numpy, 8 -> 64 -> 1). Each server runs as its own
documents say for production, with one worker, in an environment of its own, one at a time; rounds are interleaved. Ours remembers every
answer, durably, as it always does; the others remember nothing.
Does not know: scaling, rollouts, tokens.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.peers import python_of
from bench.table import Row

ROUNDS = int(os.environ.get("BENCH_SERVING_ROUNDS", "3"))
SECONDS = int(os.environ.get("BENCH_SERVING_SECONDS", "6"))
CONNECTIONS = 32
START_S = 120.0
BODY = json.dumps({f"x{n}": n / 7 for n in range(8)})
MODELS = ("noop", "small")

MODEL = """
import numpy
_draw = numpy.random.default_rng(0)
_first, _second = _draw.normal(size=(8, 64)), _draw.normal(size=64)
NAMES = [f"x{n}" for n in range(8)]

def noop(rows):
    return [row["x1"] for row in rows]

def small(rows):
    x = numpy.array([[row[name] for name in NAMES] for row in rows])
    return (numpy.maximum(x @ _first, 0.0) @ _second).tolist()
"""

OURS = """
import sys, tempfile, model
from pathlib import Path
from bedplate.core.clock import SystemClock
from bedplate.data.streams.log import Log
from bedplate.serve.answers import AnswerLog
from bedplate.serve.fields import Field
from bedplate.serve.gateway import EndpointInfo, Looked, app
from bedplate.serve.listen import bind, run
function = getattr(model, sys.argv[1])
log = Log(Path(tempfile.mkdtemp(dir=".")) / "log", SystemClock())
answers = AnswerLog(log, "bench", drain=lambda: 0, on_error=print)
info = EndpointInfo("bench", tuple(Field(name, "float") for name in model.NAMES), "bench@1", "00", "bench-1", 1)
application = app(info, lambda rows: [Looked(row) for row in rows], function, answers.remember, answers.health)
run(application, bind(int(sys.argv[2])), lambda port: None, answers.close)
"""

RAY = """
import sys, time, ray, model
from ray import serve
from starlette.requests import Request
function = getattr(model, sys.argv[1])

@serve.deployment(num_replicas=1, max_ongoing_requests=64)
class Model:
    async def __call__(self, request: Request):
        return {"prediction": function([await request.json()])[0]}

ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2]), "access_log": False}, logging_config={"enable_access_log": False})
serve.run(Model.bind(), name="bench", route_prefix="/predict", logging_config={"enable_access_log": False})
while True:
    time.sleep(1)
"""

BENTO = """
import os, bentoml, model
function = getattr(model, os.environ["BENCH_MODEL"])

@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Model:
    @bentoml.api(route="/predict")
    async def predict(self, x0: float, x1: float, x2: float, x3: float, x4: float, x5: float, x6: float, x7: float) -> float:
        return function([dict(zip(model.NAMES, (x0, x1, x2, x3, x4, x5, x6, x7)))])[0]
"""

LIT = """
import sys, litserve, model
function = getattr(model, sys.argv[1])

class Api(litserve.LitAPI):
    def setup(self, device): ...
    def decode_request(self, request): return request
    def predict(self, rows): return function(rows)
    def batch(self, rows): return rows
    def unbatch(self, answers): return answers
    def encode_response(self, answer): return {"prediction": answer}

if __name__ == "__main__":
    server = litserve.LitServer(Api(max_batch_size=32, batch_timeout=0.0), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error", access_log=False)
"""

MLFLOW = """
import sys, mlflow, model, pandas

class Model(mlflow.pyfunc.PythonModel):
    def __init__(self, name): self.name = name
    def predict(self, context, frame, params=None):
        import model
        return getattr(model, self.name)(frame.to_dict("records"))

mlflow.pyfunc.save_model(sys.argv[2], python_model=Model(sys.argv[1]), code_paths=["model.py"],
                         input_example=pandas.DataFrame([{n: 0.5 for n in model.NAMES}]))
"""


@dataclass(frozen=True)
class Server:
    """A server to measure: its name, its packages (none: ours), its script, what its path and its body are, and the bar for ours."""

    name: str
    packages: tuple[str, ...]
    script: str
    bar: float | None = None
    path: str = "/predict"
    body: str = BODY

    @property
    def python(self) -> Path:
        """The interpreter that has it."""
        return python_of(self.name.partition(" ")[0].lower(), self.packages) if self.packages else Path(sys.executable)


RECORDS = json.dumps({"dataframe_records": [json.loads(BODY)]})
SERVERS = (
    Server("ours", (), OURS),
    Server("Ray Serve", ("ray[serve]==2.60.0", "numpy"), RAY, 10.0),
    Server("BentoML", ("bentoml==1.4.39", "numpy"), BENTO, 2.0),
    Server("LitServe", ("litserve==0.2.19", "numpy"), LIT, 2.0),
    Server("mlflow", ("mlflow==3.17.2", "numpy"), MLFLOW, 3.0, "/invocations", RECORDS),
)


@dataclass(frozen=True)
class Load:
    """What a load gave: requests a second, the median and the 99th percentile of latency in seconds."""

    rate: float
    median_s: float
    p99_s: float


def rows() -> list[Row]:
    """Medians over interleaved rounds. Raises RuntimeError for a server that answers with errors."""
    if shutil.which("wrk") is None:
        raise SystemExit("the serving bench needs wrk: apt-get install wrk")
    only = os.environ.get("BENCH_SERVING_ONLY", "")
    servers = [server for server in SERVERS if not only or server.name == "ours" or only in server.name]
    loads: dict[tuple[str, str], list[Load]] = {}
    single: dict[tuple[str, str], list[Load]] = {}
    for _ in range(ROUNDS):
        for model in MODELS:
            for server in servers:
                with _running(server, model) as port:
                    _load(server, port, CONNECTIONS, 2)
                    loads.setdefault((server.name, model), []).append(_load(server, port, CONNECTIONS, SECONDS))
                    single.setdefault((server.name, model), []).append(_load(server, port, 1, max(2, SECONDS // 2)))
    table = [row for model in MODELS for server in servers for row in _rows(server, model, loads, single)]
    return [*table, _added(single)]


def _rows(server: Server, model: str, loads: dict[tuple[str, str], list[Load]], single: dict[tuple[str, str], list[Load]]) -> list[Row]:
    ours, theirs = loads["ours", model], loads[server.name, model]
    if server.name == "ours":
        return []
    rates, peer = [load.rate for load in ours], statistics.median(load.rate for load in theirs)
    spread = f"{min(rates):.0f} to {max(rates):.0f}"
    late = [1000 * load.p99_s for load in ours]
    alone = [1000 * load.median_s for load in single["ours", model]]
    return [
        Row(
            f"{model}: requests/s, {CONNECTIONS} connections", statistics.median(rates), "1/s", spread, peer, server.name, server.bar, True
        ),
        Row(
            f"{model}: p99 at {CONNECTIONS} connections",
            statistics.median(late),
            "ms",
            f"{min(late):.3g} to {max(late):.3g}",
            statistics.median(1000 * load.p99_s for load in theirs),
            server.name,
            1.0,
        ),
        Row(
            f"{model}: p50 at 1 connection",
            statistics.median(alone),
            "ms",
            f"{min(alone):.3g} to {max(alone):.3g}",
            statistics.median(1000 * load.median_s for load in single[server.name, model]),
            server.name,
        ),
    ]


def _added(single: dict[tuple[str, str], list[Load]]) -> Row:
    """What the gateway adds at p50: an answer over HTTP, less the call of the function itself."""
    names: dict[str, object] = {}
    exec(MODEL, names)
    row = json.loads(BODY)
    times = []
    for _ in range(2000):
        started_s = time.perf_counter()
        names["small"]([row])  # type: ignore[operator]  # the function of the text above
        times.append(time.perf_counter() - started_s)
    added = [1000 * (load.median_s - statistics.median(times)) for load in single["ours", "small"]]
    return Row("the gateway adds at p50, 1 connection", statistics.median(added), "ms", f"{min(added):.3g} to {max(added):.3g}", limit=1.0)


@contextmanager
def _running(server: Server, model: str) -> Iterator[int]:
    folder = Path(tempfile.mkdtemp(prefix="bedplate-serving-"))
    (folder / "model.py").write_text(MODEL)
    (folder / "server.py").write_text(server.script)
    port = _free_port()
    environment = {**os.environ, "BENCH_MODEL": model, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "1"}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_TRACKING_URI": (folder / "runs").as_uri()}
    command = [str(server.python), "server.py", model, str(port)]
    if server.name == "BentoML":
        command = [str(server.python), "-m", "bentoml", "serve", "server:Model", "--host", "127.0.0.1", "--port", str(port), "-q"]
    if server.name == "mlflow":
        made = [str(server.python), "server.py", model, "saved"]
        subprocess.run(made, cwd=folder, env=environment, check=True, capture_output=True, timeout=START_S)
        command = [str(server.python.parent / "mlflow"), "models", "serve", "-m", "saved", "-p", str(port), "--env-manager", "local"]
        environment["PATH"] = f"{server.python.parent}{os.pathsep}{environment['PATH']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(server, port, process, folder / "log")
        yield port
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(15)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(15)


def _wait(server: Server, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    limit_s = time.monotonic() + START_S
    while time.monotonic() < limit_s and process.poll() is None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{server.path}", server.body.encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.25)
    raise RuntimeError(f"{server.name} does not answer:\n{log.read_text(errors='replace')[-2000:]}")


def _load(server: Server, port: int, connections: int, seconds: int) -> Load:
    """wrk with one thread. Raises RuntimeError when an answer was no success."""
    script = Path(tempfile.mkdtemp()) / "post.lua"
    lines = ['wrk.method = "POST"', f"wrk.body = [[{server.body}]]", 'wrk.headers["Content-Type"] = "application/json"']
    errors = "s.errors.status + s.errors.connect + s.errors.read + s.errors.timeout"
    told = f"s.requests / s.duration * 1e6, l:percentile(50), l:percentile(99), {errors}"
    lines.append(f'function done(s, l, r) print(("BENCH %f %f %f %d"):format({told})) end')
    script.write_text("\n".join(lines))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}{server.path}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30).stdout
    shutil.rmtree(script.parent)
    found = re.search(r"BENCH ([\d.]+) ([\d.]+) ([\d.]+) (\d+)", printed)
    if found is None or int(found[4]):
        raise RuntimeError(f"{server.name} answered with errors:\n{printed}")
    return Load(float(found[1]), float(found[2]) / 1e6, float(found[3]) / 1e6)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
