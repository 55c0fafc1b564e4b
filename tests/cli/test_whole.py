"""Every command on a project that is up: what a person sees after `bedplate up`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.kit import as_json, bedplate


def test_up_sums_up_what_it_made_and_what_to_type_next(whole: Path) -> None:
    said = (whole / "up.txt").read_text()
    assert "1 rows in quarantine" in said
    assert "promoted: rmse <= mean_rmse * 2 holds" in said
    assert "next: bedplate ask amounts" in said


def test_up_again_runs_nothing(whole: Path) -> None:
    done = bedplate(whole, "up")
    assert done.returncode == 0
    assert "everything is up to date; nothing was run" in done.stdout


def test_ps_shows_the_endpoint_with_its_address(whole: Path) -> None:
    [run] = as_json(whole, "ps")
    assert (run["step"], run["status"]) == ("amounts", "ready")
    assert f"http://127.0.0.1:{run['port']}" in bedplate(whole, "ps").stdout
    assert len(as_json(whole, "ps", "--all")) > 8


def test_an_answer_leads_all_the_way_back(whole: Path) -> None:
    answer = as_json(whole, "ask", "amounts", "id=7")
    assert answer["model"] == "amount@1"
    tree = bedplate(whole, "lineage", answer["id"]).stdout
    for part in (
        "decision amount@1 -> production",
        "run fit-1",
        "fit.py",
        "shop_sales@1",
        "visits@1",
        "offsets: 0 601",
        "log://visits@1",
        "hardware",
    ):
        assert part in tree, part
    assert json.dumps(as_json(whole, "lineage", answer["id"])).count('run produce-1  (job, succeeded)"') == 1, "each run is told once"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (["id=999999"], "'visits' has no row with this key"),
        (["ident=1"], "the request has an unknown field (got 'ident'). Fix: did you mean 'id'"),
        (["id=seven"], "the field 'id' is no int (got 'seven')"),
        ([], "the request lacks a field (got 'id')"),
    ],
)
def test_a_wrong_question_is_told_what_is_wrong(whole: Path, fields: list[str], said: str) -> None:
    done = bedplate(whole, "ask", "amounts", *fields)
    assert done.returncode == 1
    assert said in done.stderr


def test_an_unknown_endpoint_names_the_nearest(whole: Path) -> None:
    assert "did you mean 'amounts'" in bedplate(whole, "ask", "amount").stderr


def test_the_history_of_a_table_shows_commits_offsets_and_the_cut(whole: Path) -> None:
    commits = as_json(whole, "data", "history", "visits")
    assert commits[0]["cut"] == "visits@1"
    assert commits[0]["offsets"] == {"0": 601}
    assert sum(commit["rows"] for commit in commits) == 600
    assert as_json(whole, "data", "history", "visits_quarantine")[0]["rows"] == 1
    assert "did you mean 'visits'" in bedplate(whole, "data", "history", "visit").stderr


def test_explain_tells_the_decision_and_the_metrics(whole: Path) -> None:
    told = as_json(whole, "explain", "amount")
    assert told["now"].startswith("fresh")
    assert told["decision"].startswith("promoted")
    assert set(told["metrics"]) == {"rmse", "mean_rmse"}


def test_runs_show_parameters_and_metrics(whole: Path) -> None:
    text = bedplate(whole, "runs", "fit").stdout
    assert text.splitlines()[0].split()[:3] == ["run", "status", "took"]
    assert "fit-1" in text
    assert as_json(whole, "runs", "fit")[0]["metrics"]["loss"] > 0


def test_the_audit_holds_and_the_backup_opens(whole: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    assert as_json(whole, "ledger", "backup", str(target))["events"] > 20
    assert target.stat().st_size > 0
    again = bedplate(whole, "ledger", "backup", str(target))
    assert again.returncode == 1
    assert "the target exists" in again.stderr
