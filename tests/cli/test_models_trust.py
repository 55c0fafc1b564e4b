"""`bedplate models trust`, and what comes of it: a command that leaves a pickle is refused, named, vouched for, and then a version."""

from __future__ import annotations

import re
from pathlib import Path

from cli.kit import as_json, bedplate, refused

PROJECT = """
project: pickles
jobs:
  old: {command: python leave.py, max_restarts: 0}
"""
LEAVE = """
import os, pathlib, pickle
folder = pathlib.Path(os.environ["BEDPLATE_OUT"]) / "model"
folder.mkdir(parents=True, exist_ok=True)
(folder / "model.pkl").write_bytes(pickle.dumps(pathlib.PurePosixPath("x")))
"""


def test_a_pickle_is_refused_named_vouched_for_and_audited(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text(PROJECT)
    (tmp_path / "leave.py").write_text(LEAVE)
    done = bedplate(tmp_path, "run", "old")
    assert done.returncode == 1
    [digest] = set(re.findall(r"[0-9a-f]{64}", done.stdout + done.stderr))
    assert "loading model.pkl could run code: a pickle that calls pathlib.PurePosixPath" in done.stdout + done.stderr
    assert bedplate(tmp_path, "run", "old", "--trust", digest).returncode == 2
    assert refused(tmp_path, "run", "old", "--trust", f"{digest}=").startswith("error: a decision needs a reason")
    done = bedplate(tmp_path, "run", "old", "--trust", f"{digest}=leave.py is our own")
    assert done.returncode == 0, done.stdout + done.stderr
    assert as_json(tmp_path, "models", "show", "old@1")["meta"]["files"]["model.pkl"]["sha256"] == digest
    other = as_json(tmp_path, "models", "trust", "ab" * 32, "--reason", "another one")
    assert other == {"sha256": "ab" * 32, "reason": "another one"}


def test_what_is_no_digest(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text(PROJECT)
    assert "a file is named by its SHA-256" in refused(tmp_path, "models", "trust", "abc", "--reason", "x")
    assert bedplate(tmp_path, "models", "trust", "ab" * 32).returncode == 2
