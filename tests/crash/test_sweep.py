"""The crash sweep: whatever is killed and whenever, running again ends in the same tables, one model version and an intact chain."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from bedplate.core.digest import digest_file
from bedplate.core.heads import audit
from bedplate.data.lake import Lake
from bedplate.flow.facts import location_of, serving
from bedplate.flow.stopping import bring_down
from bedplate.flow.workspace import Workspace, open_workspace
from crash.harness import Kill, can_come, finish, perform, planned_kills, start_up
from crash.small_project import ROWS, write_small_project


def bedplate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bedplate.cli.main", *words, "-C", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def ended_state(workspace: Workspace) -> dict[str, object]:
    """What must come out the same: rows of every table, the versions, the weights."""
    lake = Lake(workspace.state / "lake")
    records = workspace.refresh()
    tables = {}
    for name in ("visits", "sales", "visits_quarantine"):
        table = lake.read(name)
        tables[name] = sorted(zip(table.column("_partition").to_pylist(), table.column("_offset").to_pylist(), strict=True))
    weights = location_of(workspace, records.version("amount@1")) / "model.safetensors"
    return {
        "tables": tables,
        "versions": {name: len(versions) for name, versions in records.versions.items()},
        "production": records.alias("amount", "production"),
        "weights": digest_file(weights),
    }


def check_whole(workspace: Workspace) -> None:
    found = audit(workspace.ledger, workspace.settings.home)
    assert found.events == workspace.refresh().seq
    assert found.signed_heads > 0
    succeeded = [run.fingerprint for run in workspace.records.runs.values() if run.state.status == "succeeded"]
    assert len(succeeded) == len(set(succeeded)), "a step with one fingerprint was made twice"
    live = serving(workspace, "amounts")
    assert len(live) == 1, "exactly one replica serves"
    answer = ask(f"http://127.0.0.1:{live[0].port}/predict")
    assert answer.status_code == 200, answer.text


def ask(address: str) -> httpx.Response:
    """One answer; a replica whose process was killed is started again by its shim, so it is waited for."""
    for _ in range(300):
        try:
            return httpx.post(address, json={"id": ROWS - 1}, timeout=20)
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError("the endpoint did not come back")


def scenario(folder: Path, kills: list[Kill]) -> tuple[dict[str, object], Counter[str]]:
    """Run a fresh project under these kills, then once undisturbed; its ended state and which kills struck a live process."""
    write_small_project(folder)
    struck: Counter[str] = Counter()
    up = start_up(folder)
    for kill in kills:
        if not can_come(kill, folder, up):
            up = start_up(folder)
        struck[kill.victim] += perform(kill, folder, up)
    finish(folder, up)
    up = start_up(folder)
    assert finish(folder, up) == 0, (folder / "up.log").read_text()[-3000:]
    with open_workspace(folder) as workspace:
        try:
            check_whole(workspace)
            state = ended_state(workspace)
            again = bedplate(folder, "up")
            assert "nothing was run" in again.stdout, again.stdout + again.stderr
        finally:
            bring_down(workspace, lambda _: None)
    return state, struck


@pytest.mark.crash
@pytest.mark.timeout(7200)
def test_every_kill_ends_in_the_same_state(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    count, seed = request.config.getoption("--kills"), request.config.getoption("--crash-seed")
    reference, _ = scenario(tmp_path / "undisturbed", [])
    assert reference["versions"]["amount"] == 1
    assert reference["tables"]["visits"] == [(0, offset) for offset in range(ROWS)]
    assert reference["tables"]["visits_quarantine"] == [(0, ROWS)]
    struck: Counter[str] = Counter()
    project = 0
    while struck.total() < count:
        kills = planned_kills(seed + project)
        state, hits = scenario(tmp_path / f"killed-{project}", kills)
        struck += hits
        print(f"\nseed {seed + project}: {hits.total()} kills ({', '.join(f'{victim} {n}' for victim, n in sorted(hits.items()))})")
        assert state == reference, f"seed {seed + project}, kills: {', '.join(map(str, kills))}"
        assert hits.total() >= len(kills) // 2, "too few kills found their victim: the sweep would prove little"
        shutil.rmtree(tmp_path / f"killed-{project}")
        project += 1
    print(f"{struck.total()} kills in {project} projects from seed {seed}; every end was the same: {dict(sorted(struck.items()))}")
