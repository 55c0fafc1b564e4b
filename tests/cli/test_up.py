"""`bedplate up`: everything declared, from a stream to an endpoint, and what it says of it."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_it_tells_each_step_as_it_happens(up: tuple[Path, Path, str]) -> None:
    told = [line.split()[:2] for line in up[2].splitlines()]
    for step in ("produce", "visits", "sales", "shop_sales", "fit.inputs", "fit", "amount", "amounts.features"):
        assert told.index(["running", f"{step}-1"]) < told.index(["succeeded", f"{step}-1"])
    assert told.index(["succeeded", "amount-1"]) < told.index(["ready", "amounts-1"])


def test_it_sums_up_what_it_made_and_what_to_type_next(up: tuple[Path, Path, str]) -> None:
    assert "1 row in quarantine" in up[2]
    assert "promoted: rmse <= mean_rmse * 2 holds" in up[2]
    assert "next: bedplate ask amounts id=VALUE\n" in up[2]


def test_again_it_runs_nothing(whole: Path) -> None:
    done = bedplate(whole, "up")
    assert done.returncode == 0
    assert "everything is up to date; nothing was run" in done.stdout
    again = as_json(whole, "up")
    assert (again["status"], again["runs"]) == ("done", [])
    assert again["serving"]["amounts"] == as_json(whole, "ps")[0]["port"]


def test_one_target_can_be_named_and_a_step_forced(hello: Path) -> None:
    assert [run["id"] for run in as_json(hello, "up", "hello")["runs"]] == ["hello-1"]
    assert [run["made"]["why"] for run in as_json(hello, "up", "--force", "hello")["runs"]] == ["forced"]


def test_a_failed_step_fails_it(hello: Path) -> None:
    (hello / "hello.py").write_text("def hello(run, **_):\n    raise ValueError('no')\n")
    done = bedplate(hello, "up", "--json")
    assert done.returncode == 1
    assert '"status": "failed"' in done.stdout


def test_an_unknown_target_or_forced_step_starts_nothing(hello: Path) -> None:
    assert "no such target (got 'helo'). Fix: did you mean 'hello'?" in refused(hello, "up", "helo")
    assert "no such target (got 'helo'). Fix: did you mean 'hello'?" in refused(hello, "up", "--force", "helo")
    assert as_json(hello, "ps", "--all") == []
