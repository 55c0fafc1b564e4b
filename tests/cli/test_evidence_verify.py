"""`bedplate evidence verify`: on a machine that has only the folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cli.kit import as_json, bedplate


@pytest.fixture
def folder(still: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of evidence on a machine that has no project, no ledger and no keys; and the published key beside it."""
    assert bedplate(still, "evidence", "amount@1", "--out", "proof").returncode == 0
    assert bedplate(still, "audit", "key", "--out", str(tmp_path / "published.pem")).returncode == 0
    machine = tmp_path / "machine"
    machine.mkdir()
    (still / "proof").rename(machine / "proof")
    shutil.rmtree(still)
    monkeypatch.setenv("BEDPLATE_HOME", str(machine / "home"))
    return machine / "proof"


def test_everything_holds(folder: Path) -> None:
    done = bedplate(folder.parent, "evidence", "verify", "proof", "--key", "../published.pem")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("holds ") for line in lines[:-1])
    assert lines[-1] == f"all {len(lines) - 1} checks hold"
    assert "as was asked for" in lines[0]
    assert not (folder.parent / "home").exists(), "verifying makes no key"


def test_what_does_not_hold_is_named_and_ends_with_one(folder: Path) -> None:
    (folder / "cost.md").write_text("# it was free")
    done = bedplate(folder.parent, "evidence", "verify", "proof")
    assert done.returncode == 1
    wrong = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert wrong == ["cost.md", "SHA256SUMS"]
    assert done.stdout.splitlines()[-1].startswith("2 of ")


def test_as_json(folder: Path) -> None:
    said = as_json(folder.parent, "evidence", "verify", "proof")
    assert said["holds"] is True
    (folder / "extra").write_text("x")
    done = bedplate(folder.parent, "evidence", "verify", "proof", "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert {"what": "extra", "holds": False, "why": "added: the signed statement does not know it"} in said["findings"]


def test_a_key_of_somebody_else_does_not_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = folder.parent / "model.pem"
    shutil.copyfile(folder / "keys" / "model.pub.pem", other)
    done = bedplate(folder.parent, "evidence", "verify", "proof", "--key", "model.pem")
    assert (done.returncode, "not Ed25519" in done.stderr) == (1, True)


def test_no_such_folder(folder: Path) -> None:
    done = bedplate(folder.parent, "evidence", "verify", "nowhere")
    assert (done.returncode, "no such folder" in done.stderr) == (1, True)
