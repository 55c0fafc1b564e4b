"""A position travels through a manifest and back."""

from __future__ import annotations

import json
from dataclasses import asdict

from bedplate.train.checkpoints.content import Position
from bedplate.train.checkpoints.parts import manifest_of


def test_a_position_comes_back_from_a_manifest() -> None:
    position = Position(loop=1, epoch=2, sample=192, step=7)
    told = json.loads(manifest_of(7, asdict(position), {"seed": 3}, [b"index"]))
    assert Position(**told["position"]) == position
    assert (told["step"], told["facts"], told["world_size"]) == (7, {"seed": 3}, 1)
