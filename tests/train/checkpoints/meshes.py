"""Training of one model that is saved under one mesh and goes on under another, in float64. Runs in every rank of an attempt."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import save_file

from bedplate.train.checkpoints.content import Position
from bedplate.train.execution import Execution
from bedplate.train.keeper import Keeper
from bedplate.train.mesh import Mesh
from bedplate.train.parallel import parallel_for
from train import parallels

ROWS = 24
FACTS = {"rows": ROWS}


def go_on(run: Any) -> None:
    """Restore if there is something to restore, train to step `until`, save there, and write the whole weights."""
    torch.set_default_dtype(torch.float64)
    spec = run.attempt.spec
    mesh = Mesh.of(spec.get("shape"), run.world_size)
    torch.manual_seed(3)
    parallel = parallel_for(mesh, run.rank, torch.device("cpu"), Execution(), 3)
    model = parallel.build(lambda: parallels.build(spec.get("model", "decoder")))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=10)
    state = [model, optimizer, schedule]
    keeper = Keeper(run.attempt, run._journal, run._group, torch.device("cpu"))
    position = keeper.restore(0, state, FACTS)
    assert position is not None
    share, mine = ROWS // mesh.batch_ranks, mesh.batch_rank(run.rank)
    for step in range(position.step, spec["until"]):
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(0, parallels.CONFIG.vocabulary, (ROWS, 9), generator=generator)
        parallel.backward(model, parallels.next_token_loss, {"tokens": tokens[mine * share : (mine + 1) * share]}, lambda: None)
        parallel.clip(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    keeper.save(Position(0, 0, spec["until"] * ROWS, spec["until"]), state, FACTS)
    keeper.wait()
    weights = parallel.weights(model)
    if weights is not None:
        save_file(
            {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}, run.attempt.path / "weights.safetensors"
        )
