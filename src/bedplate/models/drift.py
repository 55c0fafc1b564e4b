"""How far a column moved between two samples: the population stability index, and the Kolmogorov-Smirnov distance.

Numbers are put into the deciles of the reference; a null (NaN) is a bin of its own, and so is each category. Shares below `LEAST_SHARE`
count as that, so that an empty bin gives a finite number. Sources: PSI is the symmetric Kullback-Leibler divergence (Kullback and Leibler
1951, Jeffreys 1946) of the shares of bins; by custom below 0.1 is stable, above 0.25 has moved. KS: Massey, JASA 46 (1951).
Does not know: tables, versions or thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 10
LEAST_SHARE = 1e-4

Column = npt.NDArray[Any]
Shares = npt.NDArray[np.float64]


def psi(reference: Column, present: Column) -> float:
    """The population stability index, from 0 (equal shares) up. NaN when a side has no rows. Both are numbers, or both texts."""
    if not len(reference) or not len(present):
        return float("nan")
    return psi_of_shares(*_shares(reference, present))


def psi_of_shares(before: Shares, after: Shares) -> float:
    """The population stability index of two distributions over the same bins."""
    before, after = np.maximum(before, LEAST_SHARE), np.maximum(after, LEAST_SHARE)
    return float(np.sum((after - before) * np.log(after / before)))


def deciles(reference: Column) -> Shares:
    """The inner edges of the bins of numbers: the deciles of what is known of the reference, each once."""
    known = reference[~np.isnan(reference)]
    return np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.array([])


def shares_of(values: Column, edges: Shares) -> Shares:
    """The shares of numbers in (.., edge], (edge, edge], ..., (edge, ..), and of nulls (NaN) in a last bin."""
    bins = len(edges) + 2
    return _counted(np.where(np.isnan(values), bins - 1, np.searchsorted(edges, values, side="left")), bins)


def ks(reference: Column, present: Column) -> float:
    """The largest distance of the two empirical distribution functions, 0 to 1; of texts, half the sum of the distances of shares."""
    if not len(reference) or not len(present):
        return float("nan")
    if reference.dtype.kind not in "biuf":
        before, after = _shares(reference, present)
        return float(np.abs(before - after).sum() / 2)
    first, second = (np.sort(values[~np.isnan(values)]) for values in (reference.astype(float), present.astype(float)))
    if not len(first) or not len(second):
        return float("nan")
    places = np.concatenate([first, second])
    below = [np.searchsorted(values, places, side="right") / len(values) for values in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


MEASURES: Mapping[str, Callable[[Column, Column], float]] = {"psi": psi, "ks": ks}


def _shares(reference: Column, present: Column) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The shares of bins that both sides have, nulls last."""
    if reference.dtype.kind not in "biuf":
        texts = [np.array([str(value) for value in values]) for values in (reference, present)]
        names = np.unique(np.concatenate(texts))
        codes: Sequence[npt.NDArray[Any]] = [np.searchsorted(names, values) for values in texts]
        return _counted(codes[0], len(names)), _counted(codes[1], len(names))
    sides = reference.astype(float), present.astype(float)
    edges = deciles(sides[0])
    return shares_of(sides[0], edges), shares_of(sides[1], edges)


def _counted(codes: npt.NDArray[Any], bins: int) -> npt.NDArray[np.float64]:
    return np.bincount(codes, minlength=bins) / len(codes)
