"""A model version with all that evidence tells of it, made by hand: what the tests of evidence's files share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from bedplate.core.clock import SimClock
from bedplate.core.event import Draft
from bedplate.core.heads import sign_head
from bedplate.core.ledger import Ledger
from bedplate.core.package import seal
from bedplate.core.record import Records, fold
from bedplate.core.versions import Version
from bedplate.models import dsse
from bedplate.models.evidence.facts import Column, Facts, Sheet, Spent

START_S = 1.7e9
CODE = {"snapshot": "c" * 64, "commit": "d" * 40, "dirty": None, "files": ["fit.py"]}
ENVIRONMENT = {"lock": "e" * 64, "packages": 3, "python": "3.11.7", "platform": "Linux"}
HARDWARE = {"host": "node-1", "cores": 8, "memory_bytes": 1 << 35, "devices": []}
SIGNATURE = {
    "label": "price",
    "inputs": [{"name": "size", "dtype": "float64", "shape": [-1]}, {"name": "shop", "dtype": "string", "shape": [-1]}],
    "outputs": [{"name": "price", "dtype": "float64", "shape": [-1]}],
}


def version(name: str, number: int, kind: Any, run: str, digest: str, **meta: Any) -> Version:
    return Version(name, number, kind, digest * 64 if len(digest) == 1 else digest, f"lake/{name}", run, START_S + number, meta)


ROWS = version("rows", 3, "table", "rows-3", "1", rows=100, quarantined=2, table_version=7)
SET = version("fit.inputs", 2, "training_set", "fit.inputs-2", "2", rows=90, splits={"train": 60, "test": 30})
FILE = version("data/rows.csv", 1, "file", "make-1", "3")


def run_drafts(run: str, step: str, kind: str, inputs: dict[str, str], made: Version, **more: Any) -> list[Draft]:
    created = {"step": step, "kind": kind, "launch": "up-1", "fingerprint": "f" * 64, "inputs": inputs, **more}
    handle: dict[str, Any] = {}
    return [
        Draft("run.created", run, created),
        Draft("attempt.started", run, {"token": 1, "engine": "local", "folder": "x", "handle": handle}),
        Draft("attempt.ended", run, {"token": 1, "status": "succeeded"}),
        Draft("version.created", made.ref, {"version": made.to_json()}),
        Draft("run.finished", run, {"status": "succeeded", "outputs": [made.ref], "params": {"lr": 0.1}, "metrics": {"loss": 0.5}}),
    ]


def model_folder(folder: Path) -> Path:
    """A model's files, sealed."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      weights")
    (folder / "signature.json").write_text(json.dumps(SIGNATURE))
    (folder / "sub").mkdir()
    (folder / "sub" / "tokenizer.json").write_text("{}")
    seal(folder, {"params": {"lr": 0.1}})
    return folder


def model_version(folder: Path) -> Version:
    """The version that `model_folder` is."""
    digest, _ = seal(folder, {"params": {"lr": 0.1}})
    return version("price", 2, "model", "fit-2", digest)


def drafts(model: Version) -> list[Draft]:
    """The whole history behind the model, with a decision."""
    decision = {"by": "gate", "promoted": True, "why": "promoted: rmse <= 5", "checks": []}
    surroundings = {"code": CODE, "environment": ENVIRONMENT, "hardware": HARDWARE, "params": {"lr": 0.1}}
    evaluation = {
        "candidate": model.ref,
        "pinned_set": SET.ref,
        "metrics": {"rmse": 1.5},
        "production": None,
        "decision": decision,
        "run": "price-2",
    }
    return [
        Draft("launch.requested", "up-1", {"mode": "up", "targets": [], "force": [], "spec": {"project": "shop"}}),
        *run_drafts("make-1", "make", "job", {}, FILE, code=CODE),
        *run_drafts("rows-3", "rows", "ingest", {"data/rows.csv": FILE.ref}, ROWS),
        *run_drafts("fit.inputs-2", "fit.inputs", "training_set", {"rows": ROWS.ref}, SET),
        *run_drafts("fit-2", "fit", "train", {"fit.inputs": SET.ref}, model, **surroundings),
        Draft("evaluation.recorded", "price", evaluation),
        Draft("alias.moved", "price", {"alias": "production", "version": 2, "decision": decision}),
    ]


def ledger_of(folder: Path, model: Version, home: Path) -> Ledger:
    """A ledger with that history, a second an event, and a signed head at its end."""
    clock = SimClock(START_S)
    ledger = Ledger(folder / "ledger.db", "shop", clock)
    for draft in drafts(model):
        clock.sleep(1.0)
        ledger.append([draft])
    sign_head(ledger, home, clock)
    return ledger


def facts_of(ledger: Ledger, model: Version, folder: Path, **changed: Any) -> Facts:
    """The facts, as the flow gathers them."""
    records: Records = fold(ledger.read())
    runs = tuple(sorted(records.runs.values(), key=lambda run: -run.created_at_s))
    columns = (Column("id", "int64", 0, "1", "100", 100), Column("shop|x", "string", 4, "2 characters", "9 characters", 12))
    made = Facts(
        project="shop",
        ledger=ledger.id,
        version=model,
        versions=(model, SET, ROWS, FILE),
        runs=runs,
        manifest=(folder / "manifest.json").read_bytes(),
        signature=SIGNATURE,
        dependencies={"torch": "2.9.0+cpu", "opt_einsum": "3.4.0"},
        evaluation=records.evaluations["price"],
        decisions=tuple(("production", move) for move in records.moves("price")["production"]),
        sheets=(Sheet(ROWS, columns, "data/rows.csv", ("id",), "at", "untrusted", "shop|x", "CC-BY-4.0", "EU"),),
        spent=(
            Spent("fit-2", "fit", 3600.0, "8 cores", 8.0, 0.08, None, "cores at 10 W"),
            Spent("rows-3", "rows", 60.0, "1 cores", 0.0167, 0.0002, 0.01, "as said"),
        ),
        tags={"stage": "pilot"},
        license="Apache-2.0",
        endpoints={"prices": {"model": "price@production"}},
    )
    return replace(made, **changed)


def envelope(facts: Facts, key: Any, kind: str = "https://bedplate.dev/attestations/decision/v1") -> dict[str, Any]:
    """A signed statement about the version."""
    return dsse.sign(dsse.statement({facts.version.ref: facts.version.digest}, kind, {"verdict": "promoted"}), key)
