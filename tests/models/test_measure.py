"""What the gate measures: every row is predicted once, on its own, after the warm-up; sizes are of all files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bedplate.models.measure import WARM_UP, latencies_s, size_bytes


def test_rows_are_predicted_one_by_one_and_the_slow_ones_are_in_the_tail() -> None:
    seen: list[Any] = []

    def predict(rows: Sequence[Any]) -> list[float]:
        seen.extend(rows)
        if rows[0]["number"] == 50:
            time.sleep(0.05)
        return [0.0] * len(rows)

    rows = [{"number": number} for number in range(100)]
    found = latencies_s(predict, rows)
    assert seen == [*rows[:WARM_UP], *rows]
    assert set(found) == {"latency_p50_s", "latency_p90_s", "latency_p99_s"}
    assert 0 < found["latency_p50_s"] <= found["latency_p90_s"] <= found["latency_p99_s"]


def test_the_size_is_of_all_files_below(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"y" * 11)
    assert size_bytes(tmp_path) == 111
