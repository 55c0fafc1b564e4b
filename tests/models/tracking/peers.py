"""Autologging, `log_model` and `load_model` of the full `mlflow`, in an environment of its own, against our server: for `make soak`.

Not in the default suite: making that environment takes minutes. `python tests/models/tracking/peers.py` prints what it saw.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.peers import python_of  # noqa: E402 - found by the line above

from models.tracking.kit import served  # noqa: E402 - found by the line above

PEER = ("mlflow==3.17.2", "scikit-learn")
SCRIPT = textwrap.dedent("""
    import json
    import mlflow
    import numpy
    from mlflow import MlflowClient
    from sklearn.datasets import make_regression
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    seen = {}
    mlflow.set_experiment("autolog")
    mlflow.sklearn.autolog()
    x, y = make_regression(n_samples=80, n_features=4, random_state=1)
    with mlflow.start_run() as run:
        model = Ridge(alpha=5).fit(x, y)
        model.score(x, y)
    stored = MlflowClient().get_run(run.info.run_id)
    seen["param"] = stored.data.params["alpha"]
    seen["metric"] = stored.data.metrics["training_score"]
    seen["inputs"] = len(stored.inputs.dataset_inputs)
    seen["logged"] = [output.model_id for output in stored.outputs.model_outputs]
    mlflow.sklearn.autolog(disable=True)
    with mlflow.start_run() as second:
        info = mlflow.sklearn.log_model(model, name="ridge", registered_model_name="ridge", input_example=x[:2])
    loaded = mlflow.pyfunc.load_model("models:/ridge/1")
    seen["same"] = bool(numpy.allclose(loaded.predict(x), model.predict(x)))
    MlflowClient().set_registered_model_alias("ridge", "champion", 1)
    seen["by alias"] = bool(numpy.allclose(mlflow.sklearn.load_model("models:/ridge@champion").predict(x), model.predict(x)))
    seen["by id"] = bool(numpy.allclose(mlflow.sklearn.load_model(info.model_uri).predict(x), model.predict(x)))
    mlflow.sklearn.autolog(log_models=False)
    with mlflow.start_run() as parent:
        GridSearchCV(Ridge(), {"alpha": [2, 3]}, cv=2).fit(x, y)
    children = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'", output_format="list")
    seen["children"] = len(children)
    seen["frame"] = len(mlflow.search_runs(order_by=["metrics.training_score DESC"]))
    print(json.dumps(seen))
""")

TORCH = (*PEER, "torch==2.13.0", "lightning")
LIGHTNING = textwrap.dedent("""
    import json
    import lightning
    import mlflow
    import torch
    from mlflow import MlflowClient

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def forward(self, x):
            return self.layer(x)

        def training_step(self, batch, _):
            loss = torch.nn.functional.mse_loss(self(batch[0]), batch[1])
            self.log("train_loss", loss, on_epoch=True)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.05)

    mlflow.set_experiment("autolog")
    mlflow.pytorch.autolog(registered_model_name="net")
    x = torch.randn(64, 4)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), batch_size=16)
    net = Net()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    with mlflow.start_run() as run:
        lightning.Trainer(max_epochs=3, accelerator="cpu", **quiet).fit(net, data)
    client = MlflowClient()
    stored = client.get_run(run.info.run_id)
    loaded = mlflow.pytorch.load_model("models:/net/1")
    losses = [point.value for point in client.get_metric_history(run.info.run_id, "train_loss_epoch")]
    print(json.dumps({"optimizer": stored.data.params["optimizer_name"], "losses": losses, "same": bool(torch.equal(loaded(x), net(x)))}))
""")


def main() -> None:
    sklearn = printed("mlflow", PEER, SCRIPT)
    print(sklearn)
    _check_sklearn(sklearn)
    lightning = printed("mlflow-lightning", TORCH, LIGHTNING)
    print(lightning)
    assert (lightning["optimizer"], lightning["same"]) == ("Adam", True)
    assert len(lightning["losses"]) == 3 and lightning["losses"][-1] < lightning["losses"][0]


def printed(name: str, requirements: tuple[str, ...], script: str) -> dict[str, Any]:
    """What a script prints, in an environment of its own, that logs to our server. Ends this process when it fails."""
    python = python_of(name, requirements)
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "state") as port:
        inherited = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        environment = {**inherited, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
        command = [python, "-W", "ignore", "-c", script]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            sys.exit(done.stderr)
        seen: dict[str, Any] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
        return seen


def _check_sklearn(seen: dict[str, Any]) -> None:
    assert seen["param"] == "5"
    assert 0.5 < seen["metric"] <= 1
    assert (seen["inputs"] >= 1, len(seen["logged"])) == (True, 1)
    assert (seen["same"], seen["by alias"], seen["by id"]) == (True, True, True)
    assert seen["children"] == 2
    assert seen["frame"] >= 3


if __name__ == "__main__":
    main()
