"""What every declaration is made of: the frozen base, names, columns, places, entries, durations.

Does not know: any declaration.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bedplate.core.clock import duration_s
from bedplate.core.errors import SpecError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
PLACE = r"^[a-z][a-z0-9_-]*\.[A-Za-z_]\w*$"  # dataset.column
Entry = Annotated[str, Field(pattern=r"^[\w./-]+\.py:[A-Za-z_]\w*$")]


class Declared(BaseModel):
    """The base of all that is declared: unknown fields are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


def checked_duration(value: str) -> str:
    """The value, when it is a duration. Raises ValueError."""
    try:
        duration_s(value)
    except SpecError as error:
        raise ValueError(error.one_line()) from error
    return value
