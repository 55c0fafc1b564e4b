"""How late will a flight arrive? A small network over what is known when it leaves."""

from typing import Any

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    """Embeddings of the categories beside the scaled numbers, and a linear path for what is nearly linear: the delay at departure."""

    def __init__(self, signature: Any) -> None:
        super().__init__()
        widths = [min(16, 1 + size // 2) for size in signature.cardinalities]
        self.embeddings = nn.ModuleList(nn.Embedding(size, width) for size, width in zip(signature.cardinalities, widths, strict=True))
        self.linear = nn.Linear(signature.numeric_width, 1)
        self.deep = nn.Sequential(
            nn.Linear(signature.numeric_width + sum(widths), 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1)
        )
        self.mean, self.scale = float(signature.label_mean), float(signature.label_std)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Minutes of delay at arrival, shape [rows]."""
        numeric = batch["numeric"]
        embedded = [embed(batch["categorical"][:, column]) for column, embed in enumerate(self.embeddings)]
        deep = self.deep(torch.cat([numeric.clamp(-6, 6), *embedded], dim=1))
        minutes: torch.Tensor = self.mean + self.scale * (self.linear(numeric) + deep).squeeze(1)
        return minutes


def loss_fn(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean squared error in units of the label's variance."""
    return torch.mean(((model(batch) - batch["label"]) / 40.0) ** 2)


def train(run: Any, lr: float = 2e-3, epochs: int = 8, batch_size: int = 2048) -> Any:
    """Plain PyTorch; the run shards, restores, checkpoints and stops on notice."""
    model = run.parallelize(lambda: Net(run.signature))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
    for batch in run.batches("train", epochs=epochs, state=[model, optimizer], batch_size=batch_size):
        loss = run.backward(loss_fn, batch)
        run.update(optimizer, clip=1.0)
        run.log(loss=loss)
    return run.save(model)


def predict(version: Any, rows: list[dict[str, Any]]) -> list[float]:
    """Minutes of delay at arrival for raw rows."""
    net = version.module(lambda: Net(version.signature))
    with torch.inference_mode():
        return [float(value) for value in net(version.encode(rows))]


def evaluate(version: Any, feed: Any) -> dict[str, float]:
    """RMSE in minutes on the test split: of the model, of `dep_delay` plus the mean gain in training, and of the plain mean."""
    net = version.module(lambda: Net(version.signature))
    test, known = feed.columns("test"), feed.columns("train")
    with torch.inference_mode():
        predicted = np.concatenate([net(batch).numpy() for batch in version.batches(feed, "test")])
    label = test["arr_delay"]
    gain = float(np.mean(known["arr_delay"] - known["dep_delay"]))
    return {
        "rmse": _rmse(predicted, label),
        "baseline_rmse": _rmse(test["dep_delay"] + gain, label),
        "mean_rmse": _rmse(np.full_like(label, known["arr_delay"].mean()), label),
    }


def _rmse(predicted: np.ndarray, label: np.ndarray) -> float:
    return float(np.sqrt(np.mean((predicted - label) ** 2)))
