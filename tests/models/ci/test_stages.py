"""The scripts of a pipeline: valid bash, in an order that makes sense, and only what the project has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bedplate.models.ci.stages import Pipeline, plan_stages, release_stages

WHOLE = Pipeline("flights", ("train_delay",), ("delay",), ("delay-api", "other"))


@pytest.mark.parametrize("stage", [*plan_stages(), *release_stages(WHOLE)], ids=lambda stage: stage.name)
def test_every_script_is_bash(stage: object) -> None:
    done = subprocess.run(["bash", "-n"], input=stage.script, text=True, capture_output=True, check=False)  # type: ignore[attr-defined]
    assert done.returncode == 0, done.stderr


def test_the_aliases_are_marked_before_anything_can_move_them_and_only_a_failure_goes_back() -> None:
    stages = release_stages(WHOLE)
    assert [stage.name for stage in stages] == ["install", "signing key", "mark", "train", "gate", "deploy", "canary", "roll back"]
    assert [stage.name for stage in stages if stage.on] == ["roll back"] and stages[-1].on == "failure"
    said = {stage.name: stage.script for stage in stages}
    assert said["train"] == "bedplate run train_delay\n" and said["gate"] == "bedplate up delay\n"
    assert said["canary"] == "bedplate ci canary delay-api --requests 20\nbedplate ci canary other --requests 20\n"
    assert "bedplate up delay-api other" in said["roll back"]


def test_a_project_without_models_or_endpoints_has_no_stage_for_them() -> None:
    assert [stage.name for stage in release_stages(Pipeline("x", ("hello",), (), ()))] == ["install", "signing key", "mark", "train"]


def test_the_plan_starts_nothing() -> None:
    scripts = "".join(stage.script for stage in plan_stages())
    assert "bedplate ci comment" in scripts and "bedplate up" not in scripts and "bedplate run" not in scripts


@pytest.mark.parametrize("name", ["two words", "a;b", "$(id)", "`id`", "it's", "--flag"])
def test_a_name_is_one_word_of_the_shell_whatever_is_in_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "bedplate").write_text('#!/bin/bash\nprintf "%s|" "$@" >> said\necho >> said\n')
    (tmp_path / "bedplate").chmod(0o755)
    said = {stage.name: stage.script for stage in release_stages(Pipeline("p", (name,), (name, "m"), (name,)))}
    script = said["train"] + said["gate"] + said["canary"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["/bin/bash", "-e"], input=script, text=True, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "said").read_text().splitlines() == [f"run|{name}|", f"up|{name}|m|", f"ci|canary|{name}|--requests|20|"]


def test_a_key_is_written_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    script = next(stage.script for stage in release_stages(WHOLE) if stage.name == "signing key")
    (tmp_path / "bedplate").write_text("#!/bin/bash\ntrue\n")
    (tmp_path / "bedplate").chmod(0o755)
    kept = tmp_path / "home" / "keys" / "signing.pem"
    around = {"PATH": f"{tmp_path}:/usr/bin:/bin", "BEDPLATE_HOME": str(tmp_path / "home")}
    subprocess.run(["/bin/bash", "-eu"], input=script, text=True, env=around, check=True)
    assert not kept.exists(), "without a secret the runner's own key is made by its first use"
    for secret in ("first", "second"):
        done = subprocess.run(
            ["/bin/bash", "-eu"], input=script, text=True, env={**around, "BEDPLATE_SIGNING_KEY": secret}, check=True, capture_output=True
        )
        assert secret not in done.stdout + done.stderr
    assert kept.read_text() == "first\n"
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(
    ("pipeline", "names"),
    [
        (Pipeline("p", (), (), ()), ["install", "signing key", "mark"]),
        (Pipeline("p", (), ("m",), ()), ["install", "signing key", "mark", "gate"]),
        (Pipeline("p", (), (), ("e",)), ["install", "signing key", "mark", "deploy", "canary", "roll back"]),
        (Pipeline("p", ("j",), (), ("e",)), ["install", "signing key", "mark", "train", "deploy", "canary", "roll back"]),
    ],
)
def test_only_what_the_project_has_is_done(pipeline: Pipeline, names: list[str]) -> None:
    assert [stage.name for stage in release_stages(pipeline)] == names
