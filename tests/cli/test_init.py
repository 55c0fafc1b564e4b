"""`bedplate init`: the template runs as it is, and a script that is there becomes a job that logs through MLflow's own client."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import as_json, bedplate, refused

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
    assert "there is a project already" in refused(tmp_path, "init")
    assert (tmp_path / "bedplate.yaml").read_text() == "project: mine\n"


def test_a_script_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "outside.py").touch()
    (tmp_path / "project").mkdir()
    for script in ("train.py", "../outside.py"):
        said = refused(tmp_path / "project", "init", "--around", script)
        assert f"there is no such script in the project's folder (got '{script}'). Fix: name a file in {tmp_path / 'project'}" in said
    assert list((tmp_path / "project").iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "a project needs a folder (got 'file')" in refused(tmp_path, "init", "file")


@pytest.mark.parametrize(("folder", "name"), [("7 Läufe", "p-7-l-ufe"), ("yes", "p-yes"), ("x" * 80, "x" * 63), ("Flights", "flights")])
def test_a_folder_with_any_name_makes_a_project_that_can_be_planned(tmp_path: Path, folder: str, name: str) -> None:
    assert as_json(tmp_path, "init", folder)["job"] == "hello"
    assert as_json(tmp_path / folder, "plan")["project"] == name


@pytest.mark.parametrize(
    ("script", "text", "job"),
    [("01 it's.py", "print('done')", "j-01-it-s"), ("run.sh", "echo done", "run"), ("tools/go", "#!/bin/sh\necho done", "go")],
)
def test_a_script_of_any_name_becomes_a_job_whose_code_is_followed(tmp_path: Path, script: str, text: str, job: str) -> None:
    (tmp_path / script).parent.mkdir(exist_ok=True)
    (tmp_path / script).write_text(text)
    (tmp_path / script).chmod(0o755)
    assert as_json(tmp_path, "init", "--around", script)["job"] == job
    done = bedplate(tmp_path, "run", job)
    assert done.returncode == 0, done.stdout + done.stderr
    assert bedplate(tmp_path, "logs", job).stdout == "1/rank-0: done\n"
    (tmp_path / script).write_text(f"{text} # changed")
    assert "its code changed" in bedplate(tmp_path, "plan").stdout


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


def test_a_template_makes_a_project_that_can_be_planned(tmp_path: Path) -> None:
    done = bedplate(tmp_path, "init", "tuned", "--template", "finetune")
    assert (done.returncode, done.stdout.splitlines()[-1].strip()) == (0, "bedplate run tune")
    made = sorted(path.name for path in (tmp_path / "tuned").iterdir())
    assert made == ["bedplate.yaml", "tune.py"]
    steps = {step["step"]["name"]: step["step"] for step in as_json(tmp_path / "tuned", "plan")["steps"]}
    assert (steps["base"]["kind"], steps["tune"]["needs"]) == ("model", ["base"])
    compile((tmp_path / "tuned" / "tune.py").read_text(), "tune.py", "exec")


def test_a_template_that_does_not_exist_or_would_overwrite(tmp_path: Path) -> None:
    assert "no such template (got 'finetuen'). Fix: did you mean 'finetune'?" in refused(tmp_path, "init", "--template", "finetuen")
    (tmp_path / "tune.py").write_text("mine")
    assert "there is a file of that name already" in refused(tmp_path, "init", "--template", "finetune")
    assert (tmp_path / "tune.py").read_text() == "mine"
    assert not (tmp_path / "bedplate.yaml").exists()
