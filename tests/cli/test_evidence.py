"""`bedplate evidence`: one folder that other people's tools verify."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from bench.peers import python_of
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from cli.kit import as_json, bedplate, refused


@pytest.fixture(scope="module")
def model_signing() -> Path:
    """The command of the `model-signing` package, in an environment of its own."""
    try:
        python = python_of("model-signing", ("model-signing==1.1.1", "pyOpenSSL"))
    except subprocess.CalledProcessError:
        pytest.skip("NOT VERIFIED BY model_signing: the package cannot be installed here")
    return python.parent / "model_signing"


def test_the_folder_holds_what_it_promises(still: Path) -> None:
    said = as_json(still, "evidence", "amount@production", "--out", "proof")
    folder = still / "proof"
    assert (said["folder"], said["files"]) == ("proof", sum(path.is_file() for path in folder.rglob("*")))
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    promised = {"bom.cdx.json", "openlineage.jsonl", "model.sig", "card.md", "evaluation.md", "cost.md", "chain.jsonl", "annex-iv.md"}
    assert promised | {"README.md", "index.html", "SHA256SUMS", "data/visits_1.md", "data/sales_1.md", "lineage.txt"} <= there
    assert {"attestations/folder.dsse.json", "attestations/provenance.dsse.json", "attestations/decision-1-production.dsse.json"} <= there
    assert not any(name.startswith("model/") for name in there)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str((folder / "bom.cdx.json").read_text()) is None


def test_the_command_of_model_signing_verifies_the_model(still: Path, model_signing: Path) -> None:
    assert bedplate(still, "evidence", "amount@1", "--out", "proof", "--with-model").returncode == 0
    folder = still / "proof"
    verify = [model_signing, "verify", "key", "model", "--signature", "model.sig", "--public_key", "keys/model.pub.pem"]
    done = subprocess.run(verify, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    done = subprocess.run(verify, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "model.safetensors" in done.stdout + done.stderr


def test_it_refuses_a_folder_that_is_there(still: Path) -> None:
    assert bedplate(still, "evidence", "amount@1").returncode == 0
    assert (still / "evidence-amount-1").is_dir()
    assert "exists already" in refused(still, "evidence", "amount@1")


def test_the_same_ledger_gives_the_same_folder(still: Path) -> None:
    for name in ("one", "two"):
        assert bedplate(still, "evidence", "amount@1", "--out", name).returncode == 0
    assert (still / "one" / "SHA256SUMS").read_text() == (still / "two" / "SHA256SUMS").read_text()


def test_only_models_have_evidence(still: Path) -> None:
    assert "evidence is of models" in refused(still, "evidence", "visits@1")
    assert "no version of that name" in refused(still, "evidence", "nothing@1")


def test_a_model_whose_bytes_were_changed_gets_none(still: Path) -> None:
    [weights] = still.glob(".bedplate/runs/fit-1/1/out/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert "model.safetensors" in refused(still, "evidence", "amount@1", "--out", "proof")
    assert not (still / "proof").exists()


def test_it_tells_what_was_declared_of_the_data(still: Path) -> None:
    path = still / "bedplate.yaml"
    declared = "source: log://visits\n    subject: id\n    license: CC0-1.0\n    residency: EU"
    path.write_text(path.read_text().replace("source: log://visits", declared))
    assert bedplate(still, "evidence", "amount@1", "--out", "proof").returncode == 0
    sheet = (still / "proof" / "data" / "visits_1.md").read_text()
    assert "- license: CC0-1.0" in sheet
    assert "- residency: EU" in sheet
    assert "| id | int64 | 0 |  |  | 600 |" in sheet, "the numbers that name persons are counted, not shown"
    document = json.loads((still / "proof" / "bom.cdx.json").read_text())
    [visits] = [part for part in document["components"] if part["bom-ref"] == "visits@1"]
    assert visits["data"][0]["classification"] == "personal data"
    assert [step["verdict"] for step in as_json(still, "plan")["steps"] if step["step"]["name"] == "visits"] == ["fresh"]
