"""What a rank carries from one generation to the next: the state of the last whole step, and metrics that are not written yet.

After every step of a training loop the rank marks its state: versions of parameters (torch counts each change in place), copies of
buffers and of small states, random generators on the board. When a peer is lost in the middle of the next step, the state is still
whole if nothing was changed since the mark, and every rank can go on from it: no step is lost.
Only for ranks that hold the whole model each (data parallel) on the CPU. Does not know: how the loss is noticed, or who decides.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from bedplate.train.board import BoardSeat, print_of_generators, restore_packed
from bedplate.train.checkpoints.content import Position
from bedplate.train.distributed import Group
from bedplate.train.keeper import bare
from bedplate.train.metrics import Pending
from bedplate.train.seat import Seat
from bedplate.train.tree import Tensors, flatten, unflatten


@dataclass
class Held:
    """The states (of `state_dict`) of one whole step."""

    position: Position
    states: list[Any]


class Followed:
    """The user's `state`, watched for changes. Optimizers that change parameters by a fused kernel tell of it by a hook."""

    def __init__(self, state: Sequence[Any]) -> None:
        self.state = tuple(state)
        self._modules = [bare(each) for each in state if isinstance(each, torch.nn.Module)]
        self._tensors = [tensor for module in self._modules for tensor in module.parameters()]
        self._buffers = [tensor for module in self._modules for tensor in module.buffers()]
        self._kept = [torch.empty_like(tensor) for tensor in self._buffers]
        self._others = [each for each in state if not isinstance(each, (torch.nn.Module, torch.optim.Optimizer))]
        self._copies: list[Any] = []
        self._stepped = False
        self._hooks = [each.register_step_pre_hook(self._steps) for each in state if isinstance(each, torch.optim.Optimizer)]

    def mark(self) -> None:
        """The step is whole."""
        self._stepped = False
        self._versions = [tensor._version for tensor in self._tensors]
        if self._buffers:
            torch._foreach_copy_(self._kept, self._buffers)
        self._copies = [copy.deepcopy(each.state_dict()) for each in self._others]

    def whole(self) -> bool:
        """Whether nothing that cannot be put back has changed since the mark."""
        return not self._stepped and self._versions == [tensor._version for tensor in self._tensors]

    def states(self) -> list[Any]:
        """The states at the mark; their tensors are not copied."""
        if self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._buffers, self._kept)
        copies = iter(self._copies)
        return [
            bare(each).state_dict() if isinstance(each, (torch.nn.Module, torch.optim.Optimizer)) else next(copies) for each in self.state
        ]

    def release(self) -> None:
        """Hold on to nothing any more."""
        for hook in self._hooks:
            hook.remove()
        self.state = ()

    def _steps(self, *_: Any) -> None:
        self._stepped = True


class Memory:
    """The memory of one process over its generations."""

    def __init__(self, seat: Seat, *, keeps: bool) -> None:
        """`keeps`: whether each rank holds the whole state, so that one can give it to another."""
        self.pending: list[Pending] = []
        self.sockets: Mapping[int, str] = {}
        self._seat = seat
        self._keeps = keeps
        self._place: BoardSeat | None = seat.board.seat(seat.rank) if seat.board is not None else None
        self._followed: Followed | None = None
        self._held: Held | None = None
        self._position: Position | None = None
        self._given = False
        self._drawn: tuple[int, object] = (-1, None)

    def move(self, place: str, steps: int | None = None) -> None:
        """Say on the board where this rank is."""
        if self._place is not None:
            self._place.move(place, steps)

    @property
    def called(self) -> bool:
        """Whether the host wants another generation to begin."""
        return self._seat.board is not None and self._seat.board.called > self._seat.generation

    def deals(self, batch_size: int) -> None:
        """Tell the host how many samples a batch has, which it deals out to as many ranks as divide it."""
        if self._seat.rank == 0:
            self._seat.tell("loop", batch_size=batch_size)

    def skips(self, loop: int, epoch: int, sample: int) -> bool:
        """Whether the batch that ends at global sample `sample` is to be left out."""
        return self._seat.assignment is not None and (loop, epoch, sample) in self._seat.assignment.skip

    def follow(self, position: Position, state: Sequence[Any]) -> None:
        """Begin to watch the `state` of a training loop, which is whole now."""
        self._followed = Followed(state) if self._keeps and self._place is not None and self._seat.world_size > 1 else None
        self.mark(position)

    def mark(self, position: Position) -> None:
        """The step that leads to `position` is whole. With followed state about 0.1 ms, else a microsecond."""
        self.move("input", position.step)
        if self._followed is not None and self._place is not None:
            self._followed.mark()
            if self._drawn[0] != position.step or self._drawn[1] != print_of_generators():
                self._place.keep_generators(position.step)
            self._position, self._held = position, None

    def drawn(self) -> None:
        """All random numbers of this step are drawn, most likely. Called before the last backward pass of a step.

        If this rank dies after that pass, the others finish the step, and only the board knows this one's generators.
        """
        if self._followed is not None and self._place is not None and self._position is not None:
            self._drawn = self._position.step + 1, print_of_generators()
            self._place.keep_generators(self._position.step + 1)

    def hold(self) -> Position | None:
        """The generation is over: keep the state of the last mark if it is whole, drop all else. Returns its position."""
        if self._followed is not None:
            if self._position is not None and self._followed.whole():
                self._held = Held(self._position, self._followed.states())
            self._followed.release()
        self._followed = self._position = None
        return self._held.position if self._held is not None else None

    def begin(self) -> None:
        """A generation begins: what only another rank's state can give is dropped, metrics of steps that will be done again as well."""
        assignment = self._seat.assignment
        self._given = False
        self._place = self._seat.board.seat(self._seat.rank) if self._seat.board is not None else None
        self.move("start")
        if assignment is None:
            return
        if assignment.source != assignment.rank:
            self._held = None
        step = (assignment.position or assignment.checkpoint or {}).get("step", 0)
        self.pending = [each for each in self.pending if each[0] <= step]

    def gives(self) -> bool:
        """Whether this generation goes on from the memory of a rank."""
        return not self._given and self._seat.assignment is not None and self._seat.assignment.source is not None

    def restore(self, loop: int, state: Sequence[Any], group: Group) -> tuple[Position | None, int]:
        """Take the state that the source has: where loop number `loop` goes on (None: it is behind), and how many steps are finished."""
        assignment = self._seat.assignment
        assert assignment is not None and assignment.position is not None and assignment.source is not None
        position = Position(**assignment.position)
        if position.loop > loop:
            return None, position.step
        self._given = True
        states = _shared(self._held.states if self._held is not None else None, group, assignment.source)
        for target, values in zip(state, states, strict=True):
            bare(target).load_state_dict(values)
        board = self._seat.board
        drawn = board.seat(assignment.drawn_by).generators(position.step) if board is not None else None
        if drawn is not None:
            restore_packed(drawn)
        return position, position.step


def _shared(states: list[Any] | None, group: Group, source: int) -> Any:
    """The states of rank `source`, on every rank."""
    tensors: Tensors = {}
    tree: Mapping[str, Any] = {}
    if group.rank == source:
        flat = flatten(states, tensors)
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        shapes = {name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in tensors.items()}
        tree = {"tree": flat, "shapes": shapes}
    told = json.loads(group.broadcast(json.dumps(tree).encode(), source))
    if group.rank != source:
        tensors = {name: torch.empty(shape, dtype=getattr(torch, dtype)) for name, (dtype, shape) in told["shapes"].items()}
    group.share(list(tensors.values()), source)
    return unflatten(told["tree"], tensors)


def position_json(position: Position | None) -> dict[str, int] | None:
    """A position as it travels to the host."""
    return None if position is None else asdict(position)
