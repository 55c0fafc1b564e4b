"""Import and export against the real MLflow and W&B, each in an environment of its own (for `make soak`; it installs them the first time).

    python tests/models/foreign/peers.py

New stores are made by today's versions; what they put in must come in here, and go out into a new MLflow database, equal.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.peers import python_of  # noqa: E402

from bedplate.cli.main import main as bedplate  # noqa: E402 - the path is set first
from bedplate.flow.tracked import tracked  # noqa: E402
from bedplate.flow.workspace import open_workspace  # noqa: E402
from bedplate.models.foreign.mlflow_rest import RestStore  # noqa: E402
from bedplate.models.foreign.mlflow_sqlite import SqliteStore  # noqa: E402
from bedplate.models.foreign.wandb import WandbStore  # noqa: E402
from models.foreign.stores import FIXTURES, everything  # noqa: E402


def mlflow_there_and_back(scratch: Path) -> None:
    python = python_of("mlflow", ["mlflow==3.17.2"])
    subprocess.run([python, FIXTURES / "make_mlflow.py", scratch / "mlflow"], check=True, capture_output=True)
    file, new = scratch / "mlflow" / "store.db", scratch / "new" / "store.db"
    new.parent.mkdir()
    project = str(scratch / "project")
    assert bedplate(["import", "mlflow", f"sqlite:///{file}", "-C", project]) == 0
    assert bedplate(["export", "mlflow", f"sqlite:///{new}", "--python", str(python), "-C", project]) == 0
    assert bedplate(["export", "mlflow", f"sqlite:///{new}", "--python", str(python), "-C", project]) == 0
    with closing(SqliteStore(file)) as before, open_workspace(scratch / "project") as workspace, tracked(workspace) as here:
        wanted = everything(before, scratch / "before")
        assert everything(here, scratch / "here") == wanted
    from bedplate.models.engines.mlflow_server import served

    with served(f"sqlite:///{new}", str(python)) as url, closing(RestStore(url)) as there:
        assert everything(there, scratch / "there") == wanted
    print("mlflow: in and out again, equal")


def wandb_in(scratch: Path) -> None:
    python = python_of("wandb", ["wandb"])
    subprocess.run([python, FIXTURES / "make_wandb.py", scratch / "wandb"], check=True, capture_output=True)
    told = json.loads((scratch / "wandb" / "wandb-run.json").read_text())
    store = WandbStore(scratch / "wandb")
    [experiment] = store.experiments()
    [run] = store.runs(experiment.id)
    found = {(point.name, point.step, repr(point.value)) for point in store.points(run.id)}
    for row in told["history"]:
        for name, value in row.items():
            assert name.startswith("_") or isinstance(value, str) or (name, row["_step"], repr(float(value))) in found, (name, row)
    assert any(artifact.name == "artifacts/model-weights/weights.bin" for artifact in store.artifacts(run))
    assert bedplate(["import", "wandb", str(scratch / "wandb"), "-C", str(scratch / "project")]) == 0
    print(f"wandb {told['wandb']}: {len(found)} points, all of the history among them")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "project").mkdir()
        (Path(folder) / "project" / "bedplate.yaml").write_text("project: peers\n")
        mlflow_there_and_back(Path(folder))
        wandb_in(Path(folder))
