"""Small tables on their way through the steps: two CSV files, and the attempts that make something of them in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bedplate.core.attempt import Attempt
from bedplate.core.spec import Dataset, Feature, Inputs, Split
from bedplate.flow.steps import feature, ingest, online, training_set
from flow.world import as_inputs, attempt

COLUMNS = {"id": "int", "shop": "string", "at": "timestamp"}
ROWS = 20


def dataset(source: str, **columns: str) -> dict[str, Any]:
    """A dataset's declaration as a step's spec has it."""
    values = {"source": source, "key": ["id"], "known_at": "at", "backfill": "trusted", "columns": {**COLUMNS, **columns}}
    return Dataset.model_validate(values).model_dump(mode="json")


VISITS = dataset("visits.csv", size="float")
SALES = dataset("sales.csv", amount="float")
VIEW = Feature.model_validate({"from": "sales", "entity": "shop", "windows": ["1h"], "aggregates": {"amount": ["sum", "count"]}})
INPUTS = Inputs(spine="visits", columns=("size",), label="sales.amount", features=("shop_sales",))


def write(folder: Path) -> None:
    """Visits of shops every ten minutes, and the sale of each, known at once."""
    for name, column in (("visits", "size"), ("sales", "amount")):
        lines = [f"{n},s{n % 2},2024-01-01T{n // 6:02}:{n % 6}0:00Z,{n}" for n in range(ROWS)]
        (folder / f"{name}.csv").write_text("\n".join([f"id,shop,at,{column}", *lines, ""]))


def ingested(folder: Path, name: str, declared: dict[str, Any]) -> Attempt:
    made = attempt(folder, name, "ingest", {"dataset": declared})
    assert ingest.work(made) == 0
    return made


def view(folder: Path, sales: Attempt) -> Attempt:
    spec = {"feature": VIEW.model_dump(mode="json", by_alias=True), "dataset": SALES}
    made = attempt(folder, "shop_sales", "feature", spec, inputs=as_inputs(sales))
    assert feature.work(made) == 0
    return made


def training(folder: Path, *made: Attempt) -> Attempt:
    split = Split(valid=0.1, test=0.2).model_dump(mode="json")
    spec = {"inputs": INPUTS.model_dump(mode="json"), "split": split, "datasets": {"visits": VISITS, "sales": SALES}}
    built = attempt(folder, "fit.inputs", "training_set", spec, inputs=as_inputs(*made))
    assert training_set.work(built) == 0
    return built


def store(folder: Path, *made: Attempt, address: str = "sqlite://") -> Attempt:
    features = {"shop_sales": VIEW.model_dump(mode="json", by_alias=True)}
    spec = {"features": features, "datasets": {"visits": VISITS, "sales": SALES}, "store": address}
    built = attempt(folder, "prices.features", "online", spec, inputs=as_inputs(*made))
    assert online.work(built) == 0
    return built
