"""`bedplate audit key`: the public half, as standard tools read it, and trust in another's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bedplate.core.heads import key_id
from cli.kit import as_json, bedplate, refused, write_hello


def test_the_public_key_is_pem_and_the_private_one_stays(tmp_path: Path) -> None:
    known = as_json(tmp_path, "audit", "key", "--out", "project.pem")
    read = load_pem_public_key((tmp_path / "project.pem").read_bytes())
    assert key_id(read) == known["key_id"]  # type: ignore[arg-type]
    assert known["pem"] == (tmp_path / "project.pem").read_text()
    assert as_json(tmp_path, "audit", "key") == known, "it is made once"
    said = bedplate(tmp_path, "audit", "key").stdout
    assert said.startswith(f"key {known['key_id']}\n-----BEGIN PUBLIC KEY-----") and "PRIVATE" not in said


def test_openssl_reads_it(tmp_path: Path) -> None:
    bedplate(tmp_path, "audit", "key", "--out", "project.pem")
    done = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", "project.pem", "-noout", "-text"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "ED25519 Public-Key" in done.stdout, done.stderr


def test_anothers_key_is_trusted_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, home = write_hello(tmp_path / "hello"), os.environ["BEDPLATE_HOME"]
    monkeypatch.setenv("BEDPLATE_HOME", str(tmp_path / "theirs"))
    theirs = as_json(folder, "audit", "key", "--out", "theirs.pem")["key_id"]
    monkeypatch.setenv("BEDPLATE_HOME", home)
    assert "trusting a key needs a reason" in refused(folder, "audit", "key", "--trust", "theirs.pem")
    said = bedplate(folder, "audit", "key", "--trust", "theirs.pem", "--reason", "the pipeline's").stdout
    assert said == f"decisions signed by {theirs} count here from now on\n"
    assert (Path(home) / "keys" / "trusted" / f"{theirs}.pem").is_file()
