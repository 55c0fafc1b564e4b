"""The planner: its error against published throughput, fitted and held out, the order it keeps, and the time of a plan."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from bench.table import Row, median_s

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]

IMPORT = "import time; t = time.perf_counter(); import bedplate.flow.predicting; print(time.perf_counter() - t)"


def rows() -> list[Row]:
    """One line a bar. Prints the worst rows, and the error by source."""
    from fit_planner import leave_one_source_out

    from train.planner.published import cases
    from train.planner.test_validation import LEAST, order

    errors = [(case, case.error()) for case in cases()]
    by_source: dict[str, list[float]] = defaultdict(list)
    by_model = defaultdict(list)
    for case, error in errors:
        by_source[case.source].append(error)
        by_model[case.work.shape.name].append(case)
    print("the worst rows:")
    for case, error in sorted(errors, key=lambda pair: -abs(pair[1]))[:12]:
        print(f"  {error:+6.1%}  {case.name}")
    print("mean error by source: " + ", ".join(f"{name} {_mean(found):.1%} of {len(found)}" for name, found in by_source.items()))
    held = leave_one_source_out()
    print("held out: " + ", ".join(f"{name} {error:.1%} of {count}" for name, (count, error) in held.items()))
    orders = [order(found) for found in by_model.values() if len(found) >= LEAST]
    memory = [abs(error) for case in cases() if (error := case.memory_error()) is not None]
    each = [error for _, error in errors]
    left_out = sum(count * error for count, error in held.values()) / sum(count for count, _ in held.values())
    spread = f"{min(each):+.0%} to {max(each):+.0%}"
    return [
        Row(f"planner: mean error of tokens/s over {len(errors)} rows", _mean(each) * 100, "%", spread, limit=20),
        Row("planner: the same, each publisher held out of the fit", left_out * 100, "%", f"{len(held)} fits", limit=20),
        Row("planner: worst publisher held out", max(error for _, error in held.values()) * 100, "%", limit=20),
        Row(f"planner: worst error of memory over {len(memory)} rows", max(memory) * 100, "%", f"mean {_mean(memory):.1%}", limit=15),
        Row("planner: least rank correlation of a model", min(orders), "", f"{len(orders)} models", limit=0.9, higher_is_better=True),
        *_times(),
    ]


def _times() -> list[Row]:
    from bedplate.flow.predicting import Question, answer

    found = []
    for model, hardware, batch in (
        ("llama3-405b", "16384 x H100-SXM", 2048),
        ("llama3-405b", "16384 x H100-SXM", 16384),
        ("llama3-70b", "64 x H100-SXM", 512),
    ):
        question = Question(model, hardware, seq=8192, batch=batch)
        took_s, spread = median_s(lambda question=question: answer(question).text(), 5)
        found.append(Row(f"planner: {model} on {hardware}, batch {batch}", took_s, "s", spread, limit=1.0))
    imports = [float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True).stdout) for _ in range(3)]
    return [*found, Row("planner: import alone", statistics.median(imports), "s")]


def _mean(errors: list[float]) -> float:
    return statistics.mean(map(abs, errors))
