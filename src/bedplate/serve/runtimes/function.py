"""The runtime for a model version whose `predict` is a plain function of the user's: called in this process, its answers checked.

Does not know: how the version was loaded, what a row means, HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bedplate.core.errors import JobError

Row = Mapping[str, Any]

_FIX = "return one finite number per row, for example predictions.tolist()"


class FunctionRuntime:
    """Answers with `function(version, rows)`. Safe to call from several threads when the function is."""

    def __init__(self, function: Callable[[Any, Sequence[Row]], Any], version: Any) -> None:
        """`version` is handed to the function as it is."""
        self._function = function
        self._version = version

    def predict(self, rows: Sequence[Row]) -> list[float]:
        """One number per row, in order.

        Raises JobError when the function fails, or gives something else than one finite number per row.
        """
        try:
            result = self._function(self._version, rows)
        except Exception as error:
            raise JobError(
                f"predict failed: {type(error).__name__}: {error}", fix="see the traceback in the log of the endpoint"
            ) from error
        values = result.tolist() if hasattr(result, "tolist") else result
        if not isinstance(values, list | tuple):
            raise JobError("predict returned no list", value=type(result).__name__, fix=_FIX)
        if len(values) != len(rows):
            raise JobError(f"predict returned {len(values)} answers for {len(rows)} rows", fix=_FIX)
        return [_number(value, place) for place, value in enumerate(values)]

    def warm_up(self, row: Row) -> None:
        """Answer once and drop the answer, so that the first request does not pay for what is set up lazily. Raises as `predict`."""
        self.predict([row])


def _number(value: Any, place: int) -> float:
    plain = value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise JobError(f"answer {place} of predict is no number", value=_short(plain), fix=_FIX)
    if not math.isfinite(plain):
        raise JobError(
            f"answer {place} of predict is not finite", value=plain, fix="check the features for missing values, and the model's weights"
        )
    return float(plain)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
