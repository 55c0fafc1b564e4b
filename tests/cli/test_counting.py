"""How far a command is: one line on a terminal, nothing elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from bedplate.cli.counting import counted


class Terminal(io.StringIO):
    """A place where a person looks."""

    def isatty(self) -> bool:
        return True


def test_a_person_sees_the_bytes_and_the_line_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with counted("hashed") as progress:
        progress(5_000_000)
        progress(1)
    assert terminal.getvalue() == "\rhashed: 5 MB \r\x1b[K"


def test_a_file_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with counted("hashed") as progress:
        progress(5_000_000)
    assert file.getvalue() == ""
