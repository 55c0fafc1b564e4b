"""Data parallel in plain JAX: each process has half of the points, gradients are summed over the devices of both."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

STEPS, ROWS = 200, 64


def main() -> None:
    """Fit y = 3x + 2."""
    # the address of the coordinator is in JAX_COORDINATOR_ADDRESS, which initialize reads itself
    count, number = int(os.environ["JAX_NUM_PROCESSES"]), int(os.environ["JAX_PROCESS_ID"])
    jax.distributed.initialize(num_processes=count, process_id=number)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    mine = np.linspace(-1, 1, ROWS)[number::count]
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    x, y = (jax.make_array_from_process_local_data(sharding, part.astype(np.float32)) for part in (mine, 3 * mine + 2))

    def loss(line: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean((line[0] * x + line[1] - y) ** 2)

    step = jax.jit(lambda line, x, y: line - 0.1 * jax.grad(loss)(line, x, y))
    line = jnp.zeros(2)
    for _ in range(STEPS):
        line = step(line, x, y)
    print(f"process {number} of {count}: {jax.device_count()} devices, slope {line[0]:.3f}, offset {line[1]:.3f}")
    if number == 0:
        Path("line.json").write_text(json.dumps({"slope": float(line[0]), "offset": float(line[1]), "devices": jax.device_count()}))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main()
