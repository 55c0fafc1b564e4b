"""`bedplate data ingest`: once, and on and on until Ctrl-C, with the lag for Prometheus."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from bedplate.core.clock import SystemClock
from bedplate.data.lake import Lake
from bedplate.data.streams.log import Log
from cli.kit import as_json, bedplate
from servers.testbed.process import free_ports


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "bedplate.yaml").write_text('project: shop\ndatasets:\n  clicks: {source: "log://clicks", columns: {n: int}}\n')
    return tmp_path


def click(folder: Path, *values: bytes) -> None:
    log = Log(folder / ".bedplate" / "log" / "clicks", SystemClock())
    log.append(values, producer="p", sequence=log.next_sequence("p"))


def test_once(shop: Path) -> None:
    click(shop, b'{"n": 1}', b"no")
    assert bedplate(shop, "data", "ingest", "clicks").stdout.strip() == "clicks: 1 rows, 1 in quarantine; up to date"
    assert as_json(shop, "data", "ingest", "clicks")["rows"] == 1
    assert "did you mean 'clicks'" in bedplate(shop, "data", "ingest", "click").stderr


def test_it_goes_on_until_ctrl_c_and_tells_the_lag(shop: Path) -> None:
    click(shop, b'{"n": 1}')
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "bedplate.cli.main", "data", "ingest", "clicks", "--follow", "--json", "--metrics-port", str(port)]
    with subprocess.Popen([*command, "-C", str(shop)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["rows"] == 1
        click(shop, b'{"n": 2}', b'{"n": 3}')
        while json.loads(running.stdout.readline())["rows"] < 3:
            pass
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert 'bedplate_ingest_rows{dataset="clicks"} 3' in answer.read().decode()
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
        assert running.returncode == 0
    assert Lake(shop / ".bedplate" / "lake").read("clicks")["n"].sort().to_pylist() == [1, 2, 3]
    assert "nothing was run" not in bedplate(shop, "run", "clicks").stdout, "a run accepts what is there"
    assert as_json(shop, "data", "history", "clicks")[0]["cut"] == "clicks@1"
