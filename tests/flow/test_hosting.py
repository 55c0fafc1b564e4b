"""The server of a project: the loop and the tracking server together, killed, started again, beside other commands."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, Busy
from bedplate.flow.hosting import ADDRESS_FILE, Place, serve_project, server_address, tracking_served
from bedplate.flow.workspace import Workspace, open_workspace
from cli.kit import as_json, bedplate, ended, started, wait_until
from models.tracking.kit import API, Client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "hello"
    made.mkdir()
    (made / "bedplate.yaml").write_text("project: hello\njobs:\n  hello: {command: echo hello}\n")
    return made


@pytest.fixture
def workspace(folder: Path) -> Workspace:
    return open_workspace(folder)


def port_of(workspace: Workspace) -> int:
    return int(json.loads((workspace.state / ADDRESS_FILE).read_text())["port"])


def test_the_address_is_written_down_and_kept(workspace: Workspace) -> None:
    assert server_address(workspace.state) is None
    ports = []
    for _ in range(2):
        with tracking_served(workspace, Place()) as address:
            assert server_address(workspace.state) == address
            ports.append(port_of(workspace))
            client = Client(ports[-1])
            assert client.call("GET", "/health") == (200, b"OK")
            client.close()
    assert ports[0] == ports[1], "a client's setting stays right"
    with socket.create_server(("127.0.0.1", ports[0])), tracking_served(workspace, Place()):
        assert port_of(workspace) != ports[0]
    workspace.close()


def test_only_loopback_without_a_token(workspace: Workspace, tmp_path: Path) -> None:
    short = tmp_path / "token"
    short.write_text("short")
    for place, said in (
        (Place(host="0.0.0.0"), "needs a token"),
        (Place(host="somewhere"), "listens on an address"),
        (Place(token_file=short), "too short"),
    ):
        with pytest.raises(BedplateError, match=said):
            serve_project(workspace, place, lambda: False, lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Busy):
        serve_project(workspace, Place(port=taken.getsockname()[1]), lambda: False, lambda _: None)
    token = tmp_path / "good"
    token.write_text("a token of some length\n")
    told: list[int] = []

    def begun(_address: str) -> None:
        client = Client(port_of(workspace))
        for headers in ({}, {"Authorization": "Bearer a token of some length"}):
            told.append(client.call("GET", f"{API}experiments/get?experiment_id=0", headers=headers)[0])
        client.close()

    serve_project(workspace, Place(token_file=token), lambda: not told, begun)
    assert told == [401, 200]
    workspace.close()


def test_a_second_tracking_server_says_that_there_is_one(workspace: Workspace) -> None:
    with tracking_served(workspace, Place()), pytest.raises(Busy, match="takes points for this project"):
        with tracking_served(workspace, Place()):
            pass
    workspace.close()


LOGGER = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
def call(path, **body):
    connection.request("POST", "/api/2.0/mlflow/" + path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    assert answer.status == 200, data
    return json.loads(data)
run = call("runs/create", experiment_id="0", run_name=sys.argv[2])["run"]["info"]["run_id"]
print(run, flush=True)
step = 0
while True:
    call("runs/log-metric", run_id=run, key="m", value=step, timestamp=step, step=step)
    if step % 50 == 0:
        call("runs/log-parameter", run_id=run, key=f"p{step}", value="x")
    step += 1
    print(step, flush=True)
"""


def log_until_killed(folder: Path, port: int, names: tuple[str, ...], at_least: int, server: int) -> dict[str, tuple[str, int]]:
    """Clients that log until the server is killed: by name, the run and how many points were acknowledged."""
    said = {name: folder.parent / f"{name}.txt" for name in names}
    clients = []
    for name, path in said.items():
        with path.open("w") as file:
            clients.append(subprocess.Popen([sys.executable, "-c", LOGGER, str(port), name], stdout=file, stderr=subprocess.DEVNULL))
    wait_until(lambda: all(path.read_text().count("\n") > at_least for path in said.values()))
    os.kill(server, signal.SIGKILL)
    for process in clients:
        process.wait(20)
    told = {name: path.read_text().rpartition("\n")[0].split("\n") for name, path in said.items()}
    return {name: (lines[0], int(lines[-1])) for name, lines in told.items()}


def test_a_killed_server_loses_no_acknowledged_point_and_no_param(folder: Path) -> None:
    first = started(folder, "server", "--json")
    wait_until(lambda: (folder / ".bedplate" / ADDRESS_FILE).exists())
    where = json.loads((folder / ".bedplate" / ADDRESS_FILE).read_text())
    told = log_until_killed(folder, where["port"], ("one", "two"), 120, first.pid)
    first.communicate(timeout=20)
    listed = {run["name"]: run["metrics"]["m"] for run in as_json(folder, "runs")}
    assert all(listed[name] >= count - 1 for name, (_, count) in told.items()), "without a server, too"
    second = started(folder, "server", "--json")
    wait_until(lambda: json.loads((folder / ".bedplate" / ADDRESS_FILE).read_text())["pid"] == second.pid)
    client = Client(json.loads((folder / ".bedplate" / ADDRESS_FILE).read_text())["port"])
    for run, count in told.values():
        points = json.loads(client.call("GET", f"{API}metrics/get-history?run_id={run}&metric_key=m")[1])["metrics"]
        assert [point["step"] for point in points][:count] == list(range(count))
        assert len(points) <= count + 1, "at most the one that was under way"
        data = json.loads(client.call("GET", f"{API}runs/get?run_id={run}")[1])["run"]["data"]
        assert {param["key"] for param in data["params"]} >= {f"p{step}" for step in range(0, count - 1, 50)}
    client.close()
    assert bedplate(folder, "down").returncode == 0
    assert ended(second)[0] == 0
    assert as_json(folder, "audit", "verify")["events"] > 4


def test_commands_and_clients_share_the_ledger(folder: Path) -> None:
    process = started(folder, "server")
    wait_until(lambda: (folder / ".bedplate" / ADDRESS_FILE).exists())
    client = Client(json.loads((folder / ".bedplate" / ADDRESS_FILE).read_text())["port"])
    stop, failures, made = threading.Event(), list[BaseException](), list[str]()

    def log() -> None:
        try:
            while not stop.is_set():
                made.append(client.json("POST", "runs/create", experiment_id="0")["run"]["info"]["run_id"])
                client.json("POST", "runs/log-metric", run_id=made[-1], key="m", value=1.0, timestamp=1)
                client.json("POST", "runs/update", run_id=made[-1], status="FINISHED", end_time=5)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=log)
    thread.start()
    try:
        assert as_json(folder, "run", "hello")["runs"][0]["status"] == "succeeded"
    finally:
        stop.set()
        thread.join()
    assert failures == []
    runs = as_json(folder, "runs")
    assert {run["id"] for run in runs} == {*made, "hello-1"}
    assert {run["status"] for run in runs} == {"succeeded"}
    found = client.json("POST", "experiments/search", filter="name = 'hello/hello'")["experiments"]
    assert len(client.json("POST", "runs/search", experiment_ids=[found[0]["experiment_id"]])["runs"]) == 1
    client.close()
    assert bedplate(folder, "down").returncode == 0
    assert ended(process)[0] == 0
    assert as_json(folder, "audit", "verify")["events"] >= 2 * len(made)
    assert stat.S_IMODE((folder / ".bedplate" / ADDRESS_FILE).stat().st_mode) & 0o022 == 0
