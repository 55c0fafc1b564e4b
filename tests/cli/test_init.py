"""`bedplate init`: the template runs as it is, and a script that is there becomes a job that logs through MLflow's own client."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate

SCRIPT = """
import mlflow

print("training")
with mlflow.start_run():
    mlflow.log_param("depth", 3)
    for step in range(5):
        mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
    mlflow.set_tag("team", "north")
    mlflow.log_text("done", "notes.txt")
"""


def test_the_template_runs_and_says_what_to_type_next(tmp_path: Path) -> None:
    made = bedplate(tmp_path, "init", "my-project")
    assert made.returncode == 0, made.stderr
    assert "cd my-project" in made.stdout
    done = bedplate(tmp_path / "my-project", "run", "hello")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert "hello world" in bedplate(tmp_path / "my-project", "logs", "hello").stdout


def test_a_project_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text("project: mine\n")
    done = bedplate(tmp_path, "init")
    assert done.returncode == 1
    assert "there is a project already" in done.stderr
    assert (tmp_path / "bedplate.yaml").read_text() == "project: mine\n"


def test_a_script_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = bedplate(tmp_path, "init", "--around", "train.py")
    assert done.returncode == 1
    assert "train.py" in done.stderr
    assert not (tmp_path / "bedplate.yaml").exists()


def test_a_folder_with_an_odd_name_makes_a_project_with_a_plain_one(tmp_path: Path) -> None:
    assert as_json(tmp_path, "init", "7 Läufe")["job"] == "hello"
    assert "project: p-7-l-ufe" in (tmp_path / "7 Läufe" / "bedplate.yaml").read_text()
    assert bedplate(tmp_path / "7 Läufe", "plan").returncode == 0


def test_a_script_logs_through_the_unmodified_client(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    assert bedplate(tmp_path, "init", "--around", "train.py").returncode == 0
    done = bedplate(tmp_path, "run", "train")
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = as_json(tmp_path, "runs")
    assert run["metrics"] == {"loss": 0.2}
    assert run["params"] == {"depth": "3"}
    assert run["tags"]["team"] == "north"
    assert run["outputs"] == ["train.artifacts@1"]
    [notes] = (tmp_path / ".bedplate" / "runs" / "train-1" / "1" / "out" / "artifacts").rglob("notes.txt")
    assert notes.read_text() == "done"
    assert "0.2" in bedplate(tmp_path, "runs").stdout
