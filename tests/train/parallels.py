"""Training the same model under many meshes, in float64, so that what differs is the mesh and not rounding.

`parity` runs in every rank of an attempt: each case in turn, in one process group. Rank 0 writes losses, norms and weights of each.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.nn import functional

import bedplate.train.pipeline
import bedplate.train.sharded  # noqa: F401 - imported once, before ranks are forked
from bedplate.train.decoder import Decoder, DecoderConfig
from bedplate.train.execution import Execution
from bedplate.train.mesh import Mesh
from bedplate.train.parallel import parallel_for

CONFIG = DecoderConfig(vocabulary=32, width=16, layers=4, heads=4, key_value_heads=2, hidden=32, length=24)
STEPS, ROWS = 4, 16
SCHEDULES = ("GPipe", "1F1B", "Interleaved1F1B", "LoopedBFS", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV")
LIMIT = 1e-5

Case = dict[str, Any]


def case(name: str, *, kind: str = "decoder", mesh: Mapping[str, Any] | None = None, **execution: Any) -> Case:
    """One way to train one kind of model."""
    return {"name": name, "kind": kind, "mesh": dict(mesh or {}), "execution": execution}


CASES: dict[int, list[Case]] = {
    1: [
        case("one"),
        case("one tied", kind="tied"),
        case("one llama", kind="llama"),
        case("one qwen3", kind="qwen3"),
        case("one qwen2", kind="qwen2"),
        case("one mistral", kind="mistral"),
        case("one plain", kind="plain"),
    ],
    2: [
        case("DP"),
        case("DP in micro-batches", accumulate=2),
        case("FSDP", mesh={"shard": 2}),
        case("FSDP in micro-batches", mesh={"shard": 2}, accumulate=2),
        case("FSDP recomputed", mesh={"shard": 2}, activation_checkpointing=True),
        case("FSDP tied", kind="tied", mesh={"shard": 2}),
        case("FSDP plain", kind="plain", mesh={"shard": 2}),
        case("TP", mesh={"tensor": 2}),
        case("TP recomputed", mesh={"tensor": 2}, activation_checkpointing=True),
        case("TP tied", kind="tied", mesh={"tensor": 2}),
        *(case(f"PP {schedule}", mesh={"pipeline": 2, "schedule": schedule}) for schedule in SCHEDULES),
        case("PP in micro-batches", mesh={"pipeline": 2}, accumulate=2),
        case("PP recomputed", mesh={"pipeline": 2}, activation_checkpointing=True),
        case("PP tied", kind="tied", mesh={"pipeline": 2}),
        case("PP tied in a V", kind="tied", mesh={"pipeline": 2, "schedule": "ZBVZeroBubble"}),
        case("TP llama", kind="llama", mesh={"tensor": 2}),
        case("PP llama", kind="llama", mesh={"pipeline": 2, "schedule": "ZBVZeroBubble"}),
        case("TP qwen3", kind="qwen3", mesh={"tensor": 2}),
        case("PP qwen3", kind="qwen3", mesh={"pipeline": 2}),
        case("TP qwen2", kind="qwen2", mesh={"tensor": 2}),
        case("TP mistral", kind="mistral", mesh={"tensor": 2}),
    ],
    4: [
        case("HSDP", mesh={"data": 2, "shard": 2}),
        case("DP x TP", mesh={"data": 2, "tensor": 2}),
        case("FSDP x TP", mesh={"shard": 2, "tensor": 2}),
        case("DP x PP", mesh={"data": 2, "pipeline": 2}),
        case("FSDP x PP", mesh={"shard": 2, "pipeline": 2, "schedule": "Interleaved1F1B"}),
        case("TP x PP", mesh={"tensor": 2, "pipeline": 2}),
        case("DP x PP tied", kind="tied", mesh={"data": 2, "pipeline": 2}),
        case("TP x PP tied", kind="tied", mesh={"tensor": 2, "pipeline": 2}),
    ],
    8: [case("DP x TP x PP", mesh={"data": 2, "tensor": 2, "pipeline": 2})],
}


class Plain(torch.nn.Module):
    """A model without a plan: what any user might write, with a buffer, a tensor that is neither, and a value that is read."""

    def __init__(self) -> None:
        super().__init__()
        rates = [each.item() for each in torch.linspace(0.0, 0.1, 2)]  # an idiom of many vision models; needs values
        self.embedding = torch.nn.Embedding(CONFIG.vocabulary, 12)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(12, 12) for _ in rates)
        self.out = torch.nn.Linear(12, CONFIG.vocabulary)
        self.register_buffer("scale", torch.rand(12))
        self.shift = torch.rand(12)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        stream = self.embedding(tokens) * self.scale + self.shift
        for layer in self.layers:
            stream = stream + torch.tanh(layer(stream))
        return self.out(stream)


def build(kind: str) -> torch.nn.Module:
    if kind == "plain":
        return Plain()
    if kind in ("decoder", "tied"):
        return Decoder(dataclasses.replace(CONFIG, tied=kind == "tied"))
    return build_transformers(kind)


def build_transformers(kind: str) -> torch.nn.Module:
    import transformers

    name = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "mistral": "Mistral"}[kind]
    config = getattr(transformers, f"{name}Config")(
        vocab_size=CONFIG.vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, head_dim=4,
    )  # fmt: skip
    return getattr(transformers, f"{name}ForCausalLM")(config)


def next_token_loss(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tokens = batch["tokens"]
    output = model(tokens[:, :-1])
    logits = output if isinstance(output, torch.Tensor) else output.logits
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def parity(run: Any) -> None:
    """Run the cases of this world size, or those named."""
    torch.set_default_dtype(torch.float64)
    folder = run.attempt.path / "cases"
    folder.mkdir(exist_ok=True)
    only = run.attempt.spec.get("only")
    for each in CASES[run.world_size]:
        if only is None or each["name"] in only:
            train_case(each, run.rank, run.world_size, folder)


def train_case(each: Case, rank: int, world_size: int, folder: Path) -> None:
    mesh = Mesh.of(each["mesh"], world_size)
    torch.manual_seed(5)
    parallel = parallel_for(mesh, rank, torch.device("cpu"), Execution(**each["execution"]), 5)
    model = parallel.build(lambda: build(each["kind"]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    share, mine = ROWS // mesh.batch_ranks, mesh.batch_rank(rank)
    losses, norms = torch.zeros(STEPS), []
    for step in range(STEPS):
        tokens = torch.randint(0, CONFIG.vocabulary, (ROWS, 9), generator=generator)
        losses[step] = parallel.backward(model, next_token_loss, {"tokens": tokens[mine * share : (mine + 1) * share]}, lambda: None)
        norms.append(float(parallel.clip(model.parameters(), 0.5)))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if world_size > 1:
        dist.all_reduce(losses)  # each sample's loss is there as often as that of any other
    tokens = torch.randint(0, CONFIG.vocabulary, (3, 9), generator=generator)  # as a split may end, and no mesh divides
    measured = float(parallel.measure(model, next_token_loss, {"tokens": tokens}))
    weights = parallel.weights(model)
    if weights is not None:
        save_file({name: tensor.clone() for name, tensor in weights.items()}, folder / f"{each['name']}.safetensors")
        (folder / f"{each['name']}.json").write_text(
            json.dumps({"losses": (losses / world_size).tolist(), "norms": norms, "names": list(weights), "measured": measured})
        )


@dataclasses.dataclass(frozen=True)
class Trained:
    losses: list[float]
    norms: list[float]
    names: list[str]
    measured: float
    weights: dict[str, torch.Tensor]


def read(folder: Path, name: str) -> Trained:
    told = json.loads((folder / "cases" / f"{name}.json").read_text())
    return Trained(**told, weights=load_file(folder / "cases" / f"{name}.safetensors"))


def assert_equal(found: Trained, wanted: Trained) -> None:
    """Names equal, all numbers within 1e-5 of those of one process."""
    assert found.names == wanted.names
    for name, tensor in wanted.weights.items():
        assert float((found.weights[name] - tensor).norm() / tensor.norm()) <= LIMIT, name
    for ours, theirs in zip([*found.losses, *found.norms, found.measured], [*wanted.losses, *wanted.norms, wanted.measured], strict=True):
        assert abs(ours - theirs) <= LIMIT * abs(theirs)


def kind_of(name: str) -> str:
    """The case of one process that a case is compared with."""
    kind = next(each["kind"] for cases in CASES.values() for each in cases if each["name"] == name)
    return "one" if kind == "decoder" else f"one {kind}"


def train_decoder(run: Any, epochs: int = 1) -> Any:
    """As a user writes it: rows of numbers become tokens. What ranks and calls learned goes to a file a rank."""
    model = run.parallelize(lambda: Decoder(CONFIG))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses, norms = [], []
    for batch in run.batches("train", epochs=epochs, state=[], batch_size=64):
        losses.append(run.backward(next_token_loss, {"tokens": tokens_of(batch)}))
        norms.append(run.update(optimizer, clip=0.5))
        run.log(loss=losses[-1])
    learned = {"losses": [each.item() for each in losses], "norms": [float(each) for each in norms]}
    (run.attempt.path / f"learned-{run.rank}.json").write_text(json.dumps(learned))
    return run.save(model)


def tokens_of(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Six tokens of each row."""
    steps = torch.arange(6, dtype=torch.float32)
    return ((batch["label"].abs()[:, None] + steps * batch["numeric"][:, :1].abs()).long()) % CONFIG.vocabulary


def wrong_use(run: Any) -> None:
    """Calls a part of a pipeline as if it were the model."""
    model = run.parallelize(lambda: Decoder(CONFIG))
    model(torch.zeros(1, 4, dtype=torch.long))


def validate_decoder(run: Any) -> Any:
    """The loss of the valid split before and behind some steps; batches that no rank shares evenly."""

    def loss(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return next_token_loss(model, {"tokens": tokens_of(batch)})

    model = run.parallelize(lambda: Decoder(CONFIG))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = run.evaluate(loss, batch_size=23)
    for batch in run.batches("train", epochs=1, state=[model, optimizer], batch_size=64):
        run.backward(loss, batch)
        run.update(optimizer)
    learned = {"before": before, "after": run.evaluate(loss, batch_size=23)}
    (run.attempt.path / f"valid-{run.rank}.json").write_text(json.dumps(learned))
    return run.save(model)
