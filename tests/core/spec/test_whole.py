"""The whole project: recorded and read back."""

from __future__ import annotations

import subprocess
import sys

from bedplate.core.spec import ProjectSpec


def test_a_recorded_spec_reads_back_as_itself() -> None:
    spec = ProjectSpec.model_validate(
        {
            "project": "flights",
            "datasets": {"a": {"source": "log://a", "key": ["k"], "known_at": "t", "columns": {"k": "int", "t": "timestamp"}}},
            "features": {"f": {"from": "a", "entity": "k", "windows": ["6h"], "aggregates": {"gain": ["mean"]}}},
            "jobs": {"j": {"function": "t.py:f", "inputs": {"spine": "a", "label": "a.k"}, "split": {"test": "20%"}}},
            "models": {"m": {"from": "j", "evaluate": "t.py:e", "predict": "t.py:p"}},
            "endpoints": {"e": {"model": "m@production"}},
        }
    )
    assert ProjectSpec.model_validate(spec.model_dump(mode="json", by_alias=True)) == spec


def test_the_spec_brings_no_engine_library() -> None:
    script = "import sys, bedplate.core.spec; print([n for n in ('numpy', 'pyarrow', 'duckdb', 'torch', 'httpx') if n in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60) == "[]\n"
