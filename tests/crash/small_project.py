"""A project that has every part of the flights example and runs in seconds: what the crash sweep and the end-to-end tests use."""

from __future__ import annotations

from pathlib import Path

ROWS = 600

PROJECT = """
project: small
datasets:
  visits:
    source: log://visits
    key: [id]
    known_at: started_at
    backfill: trusted
    columns: {id: int, shop: string, started_at: timestamp, size: float}
  sales:
    source: log://sales
    key: [id]
    known_at: ended_at
    backfill: trusted
    columns: {id: int, shop: string, ended_at: timestamp, amount: float}
features:
  shop_sales: {from: sales, entity: shop, windows: [1h, 6h], aggregates: {amount: [mean, count]}}
jobs:
  produce: {function: produce.py:produce, params: {rows: 600}, outputs: [log://visits, log://sales], max_restarts: 50}
  fit:
    function: fit.py:fit
    inputs: {spine: visits, columns: [size, shop], label: sales.amount, features: [shop_sales]}
    params: {epochs: 6, batch_size: 32}
    resources: {workers: 2}
    checkpoint: 200ms
    max_restarts: 50
models:
  amount:
    from: fit
    evaluate: fit.py:evaluate
    predict: fit.py:predict
    promote: {to: production, when: ["rmse <= mean_rmse * 2"]}
endpoints:
  amounts: {model: amount@production}
"""

PRODUCE = """
import datetime
import json

START = datetime.datetime(2024, 3, 30, tzinfo=datetime.UTC)


def records(rows):
    visits, sales = [], []
    for number in range(rows):
        at = START + datetime.timedelta(minutes=7 * number)
        size, shop = float(number % 13), f"s{number % 5}"
        visits.append({"id": number, "shop": shop, "started_at": at.isoformat(), "size": size})
        ended = at + datetime.timedelta(minutes=30)
        sales.append({"id": number, "shop": shop, "ended_at": ended.isoformat(), "amount": 3 * size + number % 5})
    visits.append({"id": "no number", "shop": "s1", "started_at": START.isoformat(), "size": 1.0})
    return {"visits": visits, "sales": sales}


def produce(run, rows=600):
    for topic, values in records(rows).items():
        stream = run.stream(topic)
        encoded = [json.dumps(value).encode() for value in values]
        for start in range(stream.written, len(encoded), 100):
            stream.append(encoded[start : start + 100])
            run.progress(start, len(encoded), "records")
"""

FIT = """
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, signature):
        super().__init__()
        self.embed = nn.Embedding(signature.cardinalities[0], 4)
        self.body = nn.Linear(signature.numeric_width + 4, 1)
        self.mean, self.scale = float(signature.label_mean), float(signature.label_std)

    def forward(self, batch):
        inner = torch.cat([batch["numeric"], self.embed(batch["categorical"][:, 0])], dim=1)
        return self.mean + self.scale * self.body(inner).squeeze(1)


def loss_fn(model, batch):
    return torch.mean((model(batch) - batch["label"]) ** 2)


def fit(run, epochs=6, batch_size=32):
    model = run.parallelize(lambda: Net(run.signature))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for batch in run.batches("train", epochs=epochs, state=[model, optimizer], batch_size=batch_size):
        loss = run.backward(loss_fn, batch)
        run.update(optimizer, clip=1.0)
        run.log(loss=loss)
    return run.save(model)


def predict(version, rows):
    net = version.module(lambda: Net(version.signature))
    with torch.inference_mode():
        return [float(value) for value in net(version.encode(rows))]


def evaluate(version, feed):
    net = version.module(lambda: Net(version.signature))
    test = feed.columns("test")
    with torch.inference_mode():
        predicted = np.concatenate([net(batch).numpy() for batch in version.batches(feed, "test")])
    label = test["amount"]
    return {
        "rmse": float(np.sqrt(np.mean((predicted - label) ** 2))),
        "mean_rmse": float(np.sqrt(np.mean((feed.columns("train")["amount"].mean() - label) ** 2))),
    }
"""


def write_small_project(folder: Path) -> Path:
    """Write the project's files and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bedplate.yaml").write_text(PROJECT)
    (folder / "produce.py").write_text(PRODUCE)
    (folder / "fit.py").write_text(FIT)
    return folder
