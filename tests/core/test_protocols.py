"""The protocols: rooms can speak them without any engine library. Each implementation passes a conformance suite in its own room."""

from __future__ import annotations

import subprocess
import sys

import bedplate.core.protocols
from bedplate.core.protocols import FeedSchema, Rendered, StreamRecord


def test_the_protocols_bring_no_engine_library() -> None:
    script = "import sys, bedplate.core.protocols; print([name for name in ('numpy', 'torch', 'pyarrow', 'duckdb') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60) == "[]\n"


def test_every_verb_of_a_protocol_says_what_it_promises() -> None:
    for name in ("Launcher", "Stream", "Feed"):
        protocol = getattr(bedplate.core.protocols, name)
        verbs = [verb for key, verb in vars(protocol).items() if callable(verb) and not key.startswith("_")]
        assert verbs
        assert all(len(verb.__doc__.split()) >= 4 or verb.__doc__.endswith("Pure.") for verb in verbs)


def test_what_is_handed_over_compares_by_value() -> None:
    assert Rendered(("a",), {"B": "1"}, "f") == Rendered(("a",), {"B": "1"}, "f")
    assert StreamRecord(0, 1, 2.0, b"x") != StreamRecord(0, 2, 2.0, b"x")
    assert FeedSchema(("a",), (), "y") == FeedSchema(("a",), (), "y")
