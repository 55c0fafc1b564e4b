"""The tinylm example on a small sample: killed twice under data x tensor x pipeline parallelism, and nothing is lost."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bedplate.cluster.tree import members
from bedplate.core.journal import JournalReader
from bedplate.train.bundle import ModelVersion

EXAMPLE = Path(__file__).parents[2] / "examples" / "tinylm"
SMALL = {  # eight workers, and six samples a step, which neither eight copies nor four can share
    "hidden: 128, heads: 4, kv_heads: 2, ffn: 352, vocab: 4096, sequence: 128, batch: 32": (
        "hidden: 32, heads: 4, kv_heads: 2, ffn: 64, vocab: 512, sequence: 32, batch: 6"
    ),
    "files: 2000, vocabulary: 4096": "files: 6, vocabulary: 512",
    "sequence: 128": "sequence: 32",
    "epochs: 1, batch_size: 32, width: 128, layers: 4, heads: 4, key_value_heads: 2, hidden: 352": (
        "epochs: 1, batch_size: 6, width: 32, layers: 4, heads: 4, key_value_heads: 2, hidden: 64"
    ),
    "split: { valid: 5%, test: 5% }": "split: { valid: 25%, test: 25% }",
    "resources: { workers: 2 }": "checkpoint: 1s\n    resources: { workers: 8 }",
}


def project(folder: Path) -> Path:
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", ".bedplate", "__pycache__"))
    text = (folder / "bedplate.yaml").read_text()
    for before, after in SMALL.items():
        assert before in text, before
        text = text.replace(before, after)
    (folder / "bedplate.yaml").write_text(text)
    return folder


def bedplate(folder: Path, *words: str) -> Any:
    command = [sys.executable, "-m", "bedplate.cli.main", *words, "-C", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def entries(folder: Path, kind: str) -> list[dict[str, Any]]:
    attempts = sorted((folder / ".bedplate" / "runs" / "train_lm-1").glob("*"))
    return [entry.body for attempt in attempts for entry in JournalReader(attempt).read() if entry.kind == kind]


def writes_to(pid: int, log: Path) -> bool:
    """Whether a process prints into that file."""
    try:
        return Path(f"/proc/{pid}/fd/1").readlink() == log
    except OSError:
        return False


def kill_a_rank(folder: Path, running: subprocess.Popen[str], after_checkpoints: int) -> bool:
    """Kill one rank with SIGKILL once so many checkpoints are committed; False when training ended before."""
    attempt = folder / ".bedplate" / "runs" / "train_lm-1" / "1"
    for _ in range(6000):
        if attempt.exists() and len(entries(folder, "checkpoint")) >= after_checkpoints:
            log = attempt / "logs" / "rank-3.log"
            for process in members(str(attempt)):
                if writes_to(process.pid, log):
                    os.kill(process.pid, signal.SIGKILL)
                    return True
        if running.poll() is not None or (attempt / "out" / "model").exists():
            return False
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def killed_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = project(tmp_path_factory.mktemp("killed") / "tinylm")
    command = [sys.executable, "-m", "bedplate.cli.main", "up", "-C", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        kills = [kill_a_rank(folder, running, after) for after in (1, 3)]
        told = running.communicate(timeout=280)[0]
        assert running.returncode == 0, told
    assert all(kills), "training ended before it could be killed"
    return folder


def test_it_is_killed_twice_and_ends_with_the_weights_of_a_run_that_was_not(killed_twice: Path, tmp_path: Path) -> None:
    assert len(entries(killed_twice, "restart")) >= 2
    whole = project(tmp_path / "tinylm")
    bedplate(whole, "up")
    assert not entries(whole, "restart")
    (one,), (other,) = entries(whole, "output"), entries(killed_twice, "output")
    assert one["meta"]["files"]["model.safetensors"] == other["meta"]["files"]["model.safetensors"], "the same bytes"
    steps = [body["step"] for body in entries(killed_twice, "metric")]
    assert sorted(set(steps)) == [body["step"] for body in entries(whole, "metric")]


def test_the_mesh_is_the_planners(killed_twice: Path) -> None:
    """Nothing in the project names a mesh; the planner chose it for eight workers and six samples a step, and every rank had it."""
    told = json.loads((killed_twice / ".bedplate" / "runs" / "train_lm-1" / "1" / "attempt.json").read_text())["spec"]
    assert told["mesh"] == {"data": 2, "tensor": 2, "pipeline": 2, "micro_batches": 3}
    assert told["planned"]["mesh"] == told["mesh"]
    assert any("6 sequences cannot be dealt to 8 workers" in why for why in told["planned"]["why"])
    explained = bedplate(killed_twice, "explain", "train_lm-1")
    assert explained["mesh"].startswith("data 2, tensor 2, pipeline 2, micro_batches 3, chosen by the planner; ")


def test_the_model_is_a_version_that_answers(killed_twice: Path) -> None:
    tinylm = runpy.run_path(str(killed_twice / "train.py"))
    (output,) = entries(killed_twice, "output")
    version = ModelVersion(killed_twice / ".bedplate" / output["location"], digest=output["digest"])
    first, again = (tinylm["predict"](version, [{"prompt": "import os\n", "max_tokens": 8}]) for _ in range(2))
    assert first == again
    assert isinstance(first[0], str)
