"""`bedplate rollback`: the alias goes back, and an endpoint that is up answers with the version before."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_an_endpoint_that_is_up_follows_at_once(whole: Path, experiment: str) -> None:
    bedplate(whole, "promote", experiment, "--reason", "to see it served")
    assert bedplate(whole, "up", "amounts").returncode == 0
    try:
        done = bedplate(whole, "rollback", "amount", "--reason", "it was worse")
        assert done.returncode == 0, done.stderr
        assert f"amount@production is amount@1 again (it was {experiment})" in done.stdout
        forth = as_json(whole, "rollback", "amount", "--to", experiment.partition("@")[2], "--reason", "it was not")
        assert (forth["version"], forth["status"], list(forth["serving"])) == (experiment, "done", ["amounts"]), "one object says all"
        assert as_json(whole, "rollback", "amount", "--to", "1", "--reason", "it was")["endpoints"] == ["amounts"]
        assert as_json(whole, "plan", "amounts")["steps"][-1]["verdict"] == "fresh", "it is served already"
        serving = [run for run in as_json(whole, "ps") if run["step"] == "amounts" and run["status"] == "ready"]
        assert serving
        assert as_json(whole, "models", "show", "amount@production")["version"] == "amount@1"
    finally:
        bedplate(whole, "promote", "amount@1", "--reason", "as it was")


def test_what_cannot_be_is_named(whole: Path) -> None:
    assert "declares no such model (got 'amuont'). Fix: did you mean 'amount'" in refused(whole, "rollback", "amuont", "--reason", "x")
    assert "no such version (got 'amount@99')" in refused(whole, "rollback", "amount", "--to", "99", "--reason", "x")
    assert bedplate(whole, "rollback", "amount").returncode == 2, "the reason is not optional"
