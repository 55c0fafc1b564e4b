"""`bedplate runs`: experiments with their parameters and metrics."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_a_column_for_each_parameter_and_metric(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    bedplate(hello, "run", "hello", "--set", "name=you")
    header, *lines = bedplate(hello, "runs", "hello").stdout.splitlines()
    assert header.split() == ["run", "status", "took", "name", "seconds", "letters", "made"]
    assert [(line.split()[0], *line.split()[4:]) for line in lines] == [("hello-1", "world", "0", "5"), ("hello-2", "you", "0", "3")]
    assert [run["metrics"] for run in as_json(hello, "runs")] == [{"letters": 5.0}, {"letters": 3.0}]


def test_training_and_its_gate_are_experiments_and_data_is_not(whole: Path) -> None:
    assert {run["kind"] for run in as_json(whole, "runs")} == {"job", "train", "gate"}
    [first, *_] = as_json(whole, "runs", "fit")
    assert first["metrics"]["loss"] > 0
    assert first["outputs"] == ["amount@1"]


def test_before_the_first_run_it_says_what_to_type(hello: Path) -> None:
    assert bedplate(hello, "runs").stdout == "no job has run yet; try `bedplate up`\n"
    assert bedplate(hello, "runs", "hello").stdout == "hello has not run yet; try `bedplate up hello`\n"
    assert as_json(hello, "runs") == []


def test_an_unknown_job_names_the_nearest(hello: Path) -> None:
    assert "no such job (got 'helo'). Fix: did you mean 'hello'?" in refused(hello, "runs", "helo")


def test_filtered_sorted_and_with_chosen_columns(hello: Path) -> None:
    for name in ("a", "bb", "ccc"):
        bedplate(hello, "run", "hello", "--set", f"name={name}")
    found = as_json(hello, "runs", "--filter", "metrics.letters > 1 and params.seconds = '0'", "--sort", "metrics.letters DESC")
    assert [run["id"] for run in found] == ["hello-3", "hello-2"]
    words = ("--sort", "params.name", "--columns", "metrics.letters, experiment", "--limit", "2")
    header, *lines = bedplate(hello, "runs", *words).stdout.splitlines()
    assert header.split() == ["run", "status", "took", "metrics.letters", "experiment", "made"]
    shown = [(line.split()[0], line.split()[-2:]) for line in lines]
    assert shown == [("hello-1", ["1", "hello/hello"]), ("hello-2", ["2", "hello/hello"])]
    assert [run["id"] for run in as_json(hello, "runs", "--limit", "1")] == ["hello-3"], "the newest"
    assert bedplate(hello, "runs", "--filter", "metrics.letters > 9").stdout == "no run matches\n"
    assert "for example: metrics.rmse < 1" in refused(hello, "runs", "--filter", "metrics.letters >")


def test_the_mesh_of_a_run_is_a_column(hello: Path) -> None:
    declared = (hello / "bedplate.yaml").read_text()
    (hello / "bedplate.yaml").write_text(declared.replace("max_restarts: 2", "max_restarts: 2, mesh: auto"))
    bedplate(hello, "run", "hello")
    _, line = bedplate(hello, "runs", "hello", "--columns", "letters, mesh").stdout.splitlines()
    assert " ".join(line.split()).endswith("5 data 1, chosen by the planner")
    assert as_json(hello, "runs")[0]["made"]["spec"]["planned"]["mesh"] == {"data": 1}
