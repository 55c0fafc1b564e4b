"""Options from a dataclass: one a field, with its default and help; values arrive as the dataclass wants them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from bedplate.cli.command import run_command
from bedplate.cli.fields import taking


@dataclass(frozen=True)
class Wish:
    """What is asked."""

    color: str
    wheel_count: int = 4
    length: float | None = None


HELPS = {"color": "of the car", "wheel_count": "how many wheels", "length": "in meters"}


def command(seen: list[dict[str, Any]]) -> Any:
    @taking(Wish, HELPS, optional=True)
    def order(loud: bool = False, **asked: Any) -> None:
        """Order a car."""
        seen.append({"loud": loud, **asked})

    return order


def test_fields_arrive_by_name_with_their_types_and_defaults() -> None:
    seen: list[dict[str, Any]] = []
    assert run_command(command(seen), "order", ["--color", "red", "--length", "3.5", "--loud"]) == 0
    assert run_command(command(seen), "order", ["--wheel-count", "3"]) == 0
    assert seen == [
        {"loud": True, "color": "red", "wheel_count": 4, "length": 3.5},
        {"loud": False, "color": None, "wheel_count": 3, "length": None},
    ]


def test_a_value_of_the_wrong_type_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command([]), "order", ["--wheel-count", "many"]) == 2
    assert "wheel-count" in capsys.readouterr().err


def test_help_has_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command([]), "order", ["--help"]) == 0
    told = capsys.readouterr().out
    assert "--wheel-count" in told
    assert "in meters" in told


def test_a_field_without_help_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError, match="length"):
        taking(Wish, {"color": "", "wheel_count": ""})(lambda **_: None)
