"""Keyless signatures. Sigstore's services cannot be here: a program stands in for `model_signing`, with its arguments and its exit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bedplate.core.errors import EvidenceError
from bedplate.models.evidence.keyless import COMMAND, sign_keyless

PROGRAM = """#!/bin/sh
while [ "$#" -gt 1 ]; do
    echo "$1" >> {told}
    [ "$1" = --signature ] && signature="$2"
    shift
done
echo "$1" >> {told}
echo 'go to https://sigstore.example and sign in'
{ending}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.safetensors", "manifest.json", "notes.txt"):
        (folder / name).write_text(name)
    return folder


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> Path:
    """A program of that name on the path; the file in which it tells its arguments."""
    told, program = tmp_path / "told", tmp_path / "bin" / COMMAND
    program.parent.mkdir()
    program.write_text(PROGRAM.format(told=told, ending=ending))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return told


def test_only_the_version_s_files_are_signed(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told = install(tmp_path, monkeypatch, """printf '{"mediaType": "bundle"}' > "$signature" """)
    assert json.loads(sign_keyless(model, ["model.safetensors", "manifest.json"])) == {"mediaType": "bundle"}
    arguments = told.read_text().splitlines()
    assert arguments[:3] == ["sign", "sigstore", "--use_ambient_credentials"]
    assert arguments[3:5] == ["--ignore-paths", str(model / "notes.txt")]
    assert arguments[-1] == str(model)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "sign in" in captured.err


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("exit 3", "did not sign.*exit status 3"),
        ("exit 0", "did not sign.*exit status 0"),
        ("""echo 'no bundle' > "$signature" """, "wrote no Sigstore bundle"),
    ],
)
def test_one_that_does_not_sign_is_said(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, ending: str, message: str) -> None:
    install(tmp_path, monkeypatch, ending)
    with pytest.raises(EvidenceError, match=message):
        sign_keyless(model, ["model.safetensors"])


def test_without_the_command_it_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EvidenceError, match="pip install model-signing"):
        sign_keyless(model, [])
