"""Splits by content: steady, near their fractions, and other for another seed."""

from __future__ import annotations

from collections import Counter

from bedplate.core.spec import Split
from bedplate.data.hash_split import hashed_split

CONTENTS = [f"document {number}".encode() for number in range(5000)]


def test_fractions_are_near_what_was_asked_for() -> None:
    counts = Counter(hashed_split(content, Split(valid=0.1, test=0.2), 0) for content in CONTENTS)
    assert abs(counts[0] / 5000 - 0.7) < 0.03
    assert abs(counts[1] / 5000 - 0.1) < 0.02
    assert abs(counts[2] / 5000 - 0.2) < 0.02
    assert {hashed_split(content, Split(valid=0, test=0), 0) for content in CONTENTS} == {0}


def test_it_depends_on_the_content_and_the_seed_only() -> None:
    first = [hashed_split(content, Split(), 3) for content in CONTENTS]
    assert first == [hashed_split(content, Split(), 3) for content in CONTENTS]
    assert first != [hashed_split(content, Split(), 4) for content in CONTENTS]


def test_a_larger_test_split_keeps_what_was_in_the_smaller() -> None:
    small = {content for content in CONTENTS if hashed_split(content, Split(valid=0, test=0.1), 0) == 2}
    large = {content for content in CONTENTS if hashed_split(content, Split(valid=0, test=0.2), 0) == 2}
    assert small < large
