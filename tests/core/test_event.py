"""Events: the vocabulary is one list, and an event cannot be changed."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import bedplate
from bedplate.core.event import KINDS, Draft, Event


def test_every_kind_says_what_happened_to_what() -> None:
    for kind, meaning in KINDS.items():
        assert re.fullmatch(r"[a-z]+\.[a-z]+", kind)
        assert len(meaning.split()) >= 4


def test_every_event_that_the_code_drafts_is_in_the_vocabulary() -> None:
    root = Path(bedplate.__file__).parent
    drafted = {kind for path in root.rglob("*.py") for kind in re.findall(r"Draft\(\s*\"([a-z.]+)\"", path.read_text())}
    assert drafted
    assert drafted <= set(KINDS)


def test_an_event_cannot_be_changed() -> None:
    event = Event(1, 0.0, "step.accepted", 1, "a", None, {}, "0" * 64)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.seq = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Draft("step.accepted", "a", {}).kind = "x"
