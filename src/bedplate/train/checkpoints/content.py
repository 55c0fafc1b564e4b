"""What a checkpoint tells besides its tensors: the place in the data, and how it is known to the ledger.

Does not know: files or tensors.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """A place in the data: `loop` counts the stateful loops of the function, `sample` the global samples of the epoch that are behind,
    `step` the steps of all loops."""

    loop: int
    epoch: int
    sample: int
    step: int
