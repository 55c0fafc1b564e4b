"""Events of tracking: every one is a kind of the ledger, idempotent where it makes something, and holds only what JSON can."""

from __future__ import annotations

from pathlib import Path

from bedplate.core.clock import SystemClock
from bedplate.core.event import KINDS
from bedplate.core.ledger import Ledger
from bedplate.core.versions import Version
from bedplate.models.tracking import drafts

VERSION = Version("delay", 1, "model", "d" * 64, "artifacts/x", "r", 1.0)
ALL = [
    drafts.experiment_created("1", "one", at_ms=1),
    drafts.experiment_changed("1", at_ms=2, lifecycle="deleted"),
    drafts.run_logged("r", "1", "one", name="first", user="u", start_ms=1),
    drafts.run_changed("r", metrics=drafts.latest({"m": (float("nan"), 1, 2), "n": (float("-inf"), 1, 2), "o": (1.5, 1, 2)})),
    drafts.logged_model_created("m-1", {"experiment_id": "1"}),
    drafts.logged_model_changed("m-1", at_ms=1, tags={"a": None}),
    drafts.trace_recorded("tr-1", {"experiment_id": "1"}),
    drafts.trace_changed("tr-1", lifecycle="deleted"),
    drafts.model_changed("delay", at_ms=1, description="x"),
    drafts.version_created(VERSION),
    drafts.version_tagged("delay@1", {"a": "b"}, "ada", stage="Staging"),
    drafts.version_removed("delay@1", "d" * 64, "ada", "because"),
    drafts.alias_moved("delay", "champion", None, {"by": "ada", "promoted": False, "why": "because"}),
]


def test_all_are_kinds_that_the_ledger_takes(tmp_path: Path) -> None:
    assert {draft.kind for draft in ALL} <= set(KINDS)
    ledger = Ledger(tmp_path / "ledger.db", "flights", SystemClock())
    assert len(ledger.append(ALL)) == len(ALL)
    made = [draft for draft in ALL if draft.key is not None]
    assert ledger.append(made) == [], "what makes something does so once"
    assert {draft.kind.partition(".")[2] for draft in made} == {"created", "logged", "recorded"}
    ledger.verify()
    ledger.close()


def test_a_run_s_name_is_its_tag_and_its_artifacts_have_a_place() -> None:
    payload = ALL[2].payload
    assert payload["tags"] == {"mlflow.runName": "first"}
    assert payload["artifact_uri"] == "mlflow-artifacts:/1/r/artifacts" == drafts.artifact_uri("1", "r")
    assert ALL[0].payload["artifact_location"] == "mlflow-artifacts:/1"


def test_latest_values_are_json() -> None:
    assert ALL[3].payload["metrics"] == {"m": ["NaN", 1, 2], "n": ["-Infinity", 1, 2], "o": [1.5, 1, 2]}
