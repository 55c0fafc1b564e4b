"""What rules ask for, read from their text alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bedplate.core.errors import SpecError
from bedplate.core.spec import Promote
from bedplate.models.declared_rules import check_expressions, to_compare, to_measure

RULES = Promote(when=("rmse <= baseline_rmse * 0.95", "rmse  <=  production.rmse * 1.01"))


def test_rules_are_checked_at_plan_time_without_any_metric() -> None:
    check_expressions(RULES)
    with pytest.raises(SpecError, match=r"promote\.when: a rule cannot hold 'min\(rmse, 3\)'"):
        check_expressions(Promote(when=("rmse < 3", "min(rmse, 3) < 3")))


def test_what_the_gate_measures_follows_from_the_rules() -> None:
    rules = Promote(
        when=("latency_p99_s < 1 and rmse < 3", "production.size_bytes > size_bytes", "drift.psi(dep_delay) < 0.2", "max(slice.a.rmse) < 1")
    )
    assert to_measure(rules) == {"latency_p99_s", "size_bytes"}
    assert to_compare(rules) == {("psi", "dep_delay")}


def test_a_plan_that_reads_rules_needs_no_numpy() -> None:
    code = "import sys, bedplate.models.declared_rules; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
