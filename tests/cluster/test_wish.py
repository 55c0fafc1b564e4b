"""A wish is kept until it was passed on, and a cancel is never taken back."""

from __future__ import annotations

from pathlib import Path

from bedplate.cluster.wish import read_wish, told, untold, wish


def test_a_wish_is_untold_until_it_was_passed_on(tmp_path: Path) -> None:
    assert (read_wish(tmp_path), untold(tmp_path)) == ("", "")
    wish(tmp_path, "stop")
    assert (read_wish(tmp_path), untold(tmp_path)) == ("stop", "stop")
    told(tmp_path, "stop")
    assert (read_wish(tmp_path), untold(tmp_path)) == ("stop", "")
    wish(tmp_path, "stop")
    assert untold(tmp_path) == ""


def test_a_cancel_comes_after_a_stop_and_is_never_taken_back(tmp_path: Path) -> None:
    wish(tmp_path, "stop")
    told(tmp_path, "stop")
    wish(tmp_path, "cancel")
    assert untold(tmp_path) == "cancel"
    wish(tmp_path, "stop")
    assert read_wish(tmp_path) == "cancel"
    told(tmp_path, "cancel")
    assert untold(tmp_path) == ""
