"""Snapshots by huggingface_hub from a small server that speaks the hub's API on loopback: files by commit, a cache without network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("huggingface_hub", reason="the extra `transformers` is not installed")

COMMIT = "c0ffee" + "0" * 34
FILES = {
    "config.json": b'{"vocab_size": 9}',
    "model.safetensors": b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
    "pytorch_model.bin": b"\x80\x04N.",
    "README.md": b"---\nlicense: mit\n---\n",
}
ASK = """
import sys
from bedplate.core.errors import BedplateError
from bedplate.models.engines.hub import snapshot
try:
    print(snapshot(sys.argv[1], sys.argv[2] or None, sys.argv[3:]))
except BedplateError as error:
    print(type(error).__name__, error.one_line())
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a snapshot asks for: facts of a repository at a revision, and its files."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(f"{self.command} {path}")
        name = path.rpartition("/")[2]
        if path in ("/api/models/org/small", f"/api/models/org/small/revision/{COMMIT}", "/api/models/org/small/revision/main"):
            body: dict[str, Any] = {"id": "org/small", "sha": COMMIT, "siblings": [{"rfilename": each} for each in FILES]}
            self.answer(200, json.dumps(body).encode(), "application/json")
        elif path.startswith("/api/models/org/small/tree/"):
            listed = [{"type": "file", "path": each, "size": len(data), "oid": "1" * 40} for each, data in FILES.items()]
            self.answer(200, json.dumps(listed).encode(), "application/json")
        elif path.startswith("/org/small/resolve/") and name in FILES:
            self.answer(200, FILES[name], "application/octet-stream")
        else:
            self.answer(404, b'{"error": "Repository not found"}', "application/json", {"X-Error-Code": "RepoNotFound"})

    def answer(self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **(more or {})}.items():
            self.send_header(key, value)
        self.send_header("ETag", f'"{len(body)}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def ask(endpoint: str, cache: Path, name: str, revision: str = "", *patterns: str) -> str:
    """In a process of its own: huggingface_hub reads its settings once, when it is imported."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_ETAG_TIMEOUT": "5", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    settings |= {"HF_HUB_OFFLINE": "1"} if not endpoint else {}
    argv = [sys.executable, "-W", "ignore", "-c", ASK, name, revision, *patterns]
    done = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_a_snapshot_is_named_by_its_commit_and_leaves_unsafe_weights_where_they_are(hub: str, tmp_path: Path) -> None:
    folder = Path(ask(hub, tmp_path, "org/small"))
    assert folder.name == COMMIT
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not any("pytorch_model.bin" in each for each in Hub.asked), "a pickle beside safe weights is not even fetched"
    Hub.asked.clear()
    assert ask(hub, tmp_path, "org/small", COMMIT) == str(folder)
    assert not any(each.startswith("GET /org/small/resolve") for each in Hub.asked), "the cache has the bytes"
    assert ask("", tmp_path, "org/small") == str(folder), "and serves without a network"


def test_what_neither_hub_nor_cache_has_is_said(hub: str, tmp_path: Path) -> None:
    assert ask(hub, tmp_path, "org/none").startswith("NotFound the hub has no such model")
    said = ask("", tmp_path, "org/small")
    assert said.startswith("Unavailable the hub cannot be asked, and its cache has no such model")
    assert "dir://" in said
    folder = Path(ask(hub, tmp_path / "two", "org/small", "main", "*.json"))
    assert [path.name for path in folder.iterdir()] == ["config.json"]
