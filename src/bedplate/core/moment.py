"""A moment as people name it: a date, a time, or how long ago.

Does not know: what was true then.
"""

from __future__ import annotations

import re

from bedplate.core.clock import duration_s, instant
from bedplate.core.errors import SpecError

_AGO = re.compile(r"(\d{1,6})\s*(s|second|min|minute|h|hour|d|day|w|week)s?\s+ago")
_DAY_S = 86400.0


def moment(text: str, now_s: float) -> float:
    """Seconds since the epoch of `2026-11-01` (its beginning), `2026-11-01T12:00`, `2 days ago`, `yesterday` or `now`, in UTC.

    `yesterday` is a day before `now_s`, to the second. Raises SpecError for anything else.
    """
    said = text.strip().lower()
    if said in ("now", "yesterday"):
        return now_s - (_DAY_S if said == "yesterday" else 0.0)
    ago = _AGO.fullmatch(said)
    if ago is not None:
        count, unit = int(ago.group(1)), ago.group(2)
        short = "min" if unit.startswith("min") else unit[0]
        return now_s - (duration_s(f"{count}{short}") if count else 0.0)
    try:
        return instant(text.strip().replace(" ", "T")).timestamp()
    except (ValueError, OverflowError) as error:
        fix = "write 2026-11-01, 2026-11-01T12:00, '2 days ago' or yesterday"
        raise SpecError("not a moment", value=text, fix=fix) from error
