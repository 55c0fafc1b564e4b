"""Money as whole micro-units of one currency, so that sums are exact: what is charged, idle and shared adds up to the bill.

Does not know: exchange rates, or what anything costs (`pools_file`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

MICROS = 1_000_000


def micros(amount: str | float | Decimal) -> int:
    """An amount as micro-units, to the nearest (half to even). Raises ValueError for what is no finite amount."""
    try:
        return int((Decimal(str(amount)) * MICROS).quantize(Decimal(1), ROUND_HALF_EVEN))
    except InvalidOperation as error:
        raise ValueError(f"{amount!r} is no amount of money") from error


def money(amount_micros: int, currency: str) -> str:
    """For people, to the cent; below ten cents to the micro-unit's fourth digit."""
    digits = 2 if abs(amount_micros) >= MICROS // 10 or amount_micros == 0 else 4
    return f"{amount_micros / MICROS:,.{digits}f} {currency}"


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """`total` divided by `weights` into whole parts that add up to it (largest remainder; of equal ones the first).

    Without any weight all parts are 0 and nothing is divided. Raises ValueError for a negative weight or total.
    """
    if total < 0 or min(weights, default=0) < 0:
        raise ValueError("a total and weights are not negative")
    whole = sum(weights)
    if not whole:
        return [0 for _ in weights]
    parts = [total * weight // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda index: (-(total * weights[index] % whole), index))
    for index in order[: total - sum(parts)]:
        parts[index] += 1
    return parts


def parse_money(text: str) -> tuple[int, str]:
    """`20 USD` as micro-units and currency. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ([A-Z]{3})", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no amount of money: write for example 20 USD")
    return micros(match[1]), match[2]
