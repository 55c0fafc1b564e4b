"""`bedplate ci init`: the very scripts of the rendered pipelines, run here in order, in a bash, on a small project under git.

A first push is released; a second one, whose new model fails the canary, is rolled back: alias, code and endpoint. Only what a provider
itself does (checkout, and sending the comment) stands in: a clone, a `gh` that keeps what it is given, and a server for `curl`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml

from cli.kit import as_json, bedplate, refused
from crash.small_project import write_small_project

GH = '#!/bin/sh\nprintf "%s\\n" "$@" > "$GH_SAYS"\nfor last; do :; done\ncat "$last" >> "$GH_SAYS"\n'
BROKEN = "def predict(version, rows):\n    if rows[0]['size'] is not None:\n        return [float('nan') for _ in rows]\n"


class Runner:
    """A runner with its own home and state, and a clone of the project."""

    def __init__(self, folder: Path) -> None:
        self.origin, self.clone = write_small_project(folder / "origin"), folder / "clone"
        text = (self.origin / "bedplate.yaml").read_text().replace("resources: {workers: 2}", "")
        (self.origin / "bedplate.yaml").write_text(text)
        (folder / "bin").mkdir()
        (folder / "bin" / "gh").write_text(GH)
        (folder / "bin" / "gh").chmod(0o755)
        self.said = folder / "said"
        path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        places = {"BEDPLATE_STATE": str(folder / "state"), "BEDPLATE_HOME": str(folder / "home"), "GH_SAYS": str(self.said)}
        self.environment = {**os.environ, **places, "PATH": path, "OMP_NUM_THREADS": "1"}
        self.git(self.origin, "init", "--quiet", "--initial-branch", "main")

    def git(self, where: Path, *words: str) -> str:
        named = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *named, *words], cwd=where, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def push(self) -> str:
        """Commit all of the project and check it out, as a provider does; returns the commit."""
        self.git(self.origin, "add", "--all")
        self.git(self.origin, "commit", "--quiet", "--message", "a change")
        if not self.clone.exists():
            self.git(self.origin, "clone", "--quiet", str(self.origin), str(self.clone))
        self.git(self.clone, "fetch", "--quiet", "origin")
        self.git(self.clone, "checkout", "--quiet", "--detach", "origin/main")
        return self.git(self.clone, "rev-parse", "HEAD")

    def bash(self, script: str, **given: str) -> subprocess.CompletedProcess[str]:
        """One script, as both providers run it: bash that ends with the first command that fails."""
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        environment = {**self.environment, **given}
        return subprocess.run(words, cwd=self.clone, env=environment, capture_output=True, text=True, timeout=200, check=False)

    def job(self, steps: list[Mapping[str, Any]], **given: str) -> dict[str, str]:
        """The steps of a job in order, those `if: failure()` after one that failed; how each ended, by name."""
        ended: dict[str, str] = {}
        for step in steps:
            failed = "failed" in ended.values()
            if "run" not in step or failed != (step.get("if") == "failure()"):
                continue
            done = self.bash(step["run"], **given)
            ended[step["name"]] = "well" if done.returncode == 0 else "failed"
            self.last = done.stdout + done.stderr
        return ended


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    made = Runner(tmp_path)
    yield made
    if made.clone.exists():
        made.bash("bedplate down")


def break_the_canary(runner: Runner) -> None:
    """The next change: another model, and a `predict` that fails for real requests but not when it is warmed up."""
    yaml_file, code = runner.origin / "bedplate.yaml", runner.origin / "fit.py"
    yaml_file.write_text(yaml_file.read_text().replace("epochs: 6", "epochs: 5"))
    code.write_text(code.read_text().replace("def predict(version, rows):\n", BROKEN))


def test_the_workflow_of_github_releases_a_change_and_rolls_a_bad_one_back(runner: Runner) -> None:
    assert bedplate(runner.origin, "ci", "init").returncode == 0
    first = runner.push()
    flow = yaml.safe_load((runner.clone / ".github/workflows/bedplate.yml").read_text())
    plan, release = (flow["jobs"][name]["steps"] for name in ("plan", "release"))
    assert set(runner.job(plan, NUMBER="7", GITHUB_REPOSITORY="us/small").values()) == {"well"}
    said = runner.said.read_text()
    assert said.startswith("pr\ncomment\n7\n--repo\nus/small\n") and "### bedplate plan: small" in said
    assert "| fit | train | waits |" in said and "No version was graded yet." in said

    ended = runner.job(release)
    assert list(ended) == ["install", "signing key", "mark", "train", "gate", "deploy", "canary"]
    assert set(ended.values()) == {"well"}, runner.last
    assert "20 of 20 requests to amounts (amount@1) are well" in runner.last

    break_the_canary(runner)
    runner.push()
    assert set(runner.job(plan, NUMBER="8", GITHUB_REPOSITORY="us/small").values()) == {"well"}
    assert "its declaration changed" in runner.said.read_text() and "| rmse |" in runner.said.read_text()
    ended = runner.job(release, BEFORE=first, CI_RUN="99")
    assert ended["canary"] == "failed" and ended["roll back"] == "well", runner.last
    assert runner.bash("bedplate ci canary amounts").returncode == 0, "the endpoint answers again"
    aliases = runner.bash("bedplate lineage amount@production --json").stdout
    assert json.loads(aliases)["title"].startswith("model amount@1")
    assert runner.bash("bedplate audit verify").returncode == 0


class Notes(BaseHTTPRequestHandler):
    """The one route of GitLab that the pipeline calls."""

    kept: list[tuple[str, str | None, str]]

    def do_POST(self) -> None:
        body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["body"][0]
        self.kept.append((self.path, self.headers["PRIVATE-TOKEN"], body))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_the_pipeline_of_gitlab_writes_its_note_and_goes_back_after_a_failure(runner: Runner) -> None:
    assert bedplate(runner.origin, "ci", "init", "--provider", "gitlab").returncode == 0
    runner.push()
    flow = yaml.safe_load((runner.clone / ".gitlab-ci.yml").read_text())
    Notes.kept = []
    server = HTTPServer(("127.0.0.1", 0), Notes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        given = {
            "CI_API_V4_URL": f"http://127.0.0.1:{server.server_port}/api/v4",
            "CI_PROJECT_ID": "3",
            "CI_MERGE_REQUEST_IID": "7",
            "BEDPLATE_GITLAB_TOKEN": "a token",
            "NO_PROXY": "127.0.0.1",
        }
        done = runner.bash("\n".join(flow["plan"]["script"]), **given)
        assert done.returncode == 0, done.stderr
    finally:
        server.shutdown()
        server.server_close()
    [(path, token, note)] = Notes.kept
    assert (path, token) == ("/api/v4/projects/3/merge_requests/7/notes", "a token")
    assert note.startswith("### bedplate plan: small")
    scripts, [back] = flow["release"]["script"], flow["release"]["after_script"]
    done = runner.bash("\n".join(scripts))
    assert done.returncode == 0, done.stdout + done.stderr
    assert runner.bash(back, CI_JOB_STATUS="success").stdout == ""
    done = runner.bash(back, CI_JOB_STATUS="failed")
    assert done.returncode == 0 and "no alias moved since the mark" not in done.stdout, done.stderr
    assert "amount: there was no version before: it stays" in done.stdout


def test_what_is_there_is_not_written_over_and_names_stay_names(tmp_path: Path) -> None:
    folder = write_small_project(tmp_path / "small")
    assert as_json(folder, "ci", "init")["file"].endswith(".github/workflows/bedplate.yml")
    assert "a pipeline is there already" in refused(folder, "ci", "init")
    assert bedplate(folder, "ci", "init", "--replace", "--branch", "trunk").returncode == 0
    assert 'branches: ["trunk"]' in (folder / ".github/workflows/bedplate.yml").read_text()
    assert "no such provider (got 'gitlub'). Fix: did you mean 'gitlab' or 'github'?" in refused(
        folder, "ci", "init", "--provider", "gitlub"
    )
    assert "--branch must be a plain name" in refused(folder, "ci", "init", "--branch", 'x"]\npermissions: write-all')
