import json
from pathlib import Path

import pytest
import torch

from bedplate.core.errors import CheckpointError, JobError
from bedplate.train.bundle import ModelVersion, save_model
from bedplate.train.preprocess import fit
from train.samples import build_net, flights_feed

ROWS = [{"delay": 12.0, "distance": 500, "carrier": "UA"}, {"delay": None, "distance": 90.0, "carrier": "never seen"}]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, torch.nn.Module, str]:
    fitted = fit(flights_feed())
    torch.manual_seed(1)
    net = build_net(fitted.signature)
    digest, _ = save_model(tmp_path / "model", net.state_dict(), fitted, {"lr": 0.1})
    return tmp_path / "model", net.eval(), digest


def test_a_version_answers_as_the_model_that_was_saved(saved: tuple[Path, torch.nn.Module, str]) -> None:
    folder, net, digest = saved
    version = ModelVersion(folder, digest=digest)
    built = []

    def build() -> torch.nn.Module:
        built.append(1)
        return build_net(version.signature)

    batch = version.encode(ROWS)
    assert (batch["numeric"].dtype, batch["categorical"].dtype) == (torch.float32, torch.int64)
    answers = [version.module(build)(batch).tolist() for _ in range(2)]
    assert answers[0] == answers[1] == net(batch).detach().tolist()
    assert built == [1]
    assert not version.module(build).training
    assert version.params == {"lr": 0.1}


def test_a_split_is_graded_whole_and_in_order(saved: tuple[Path, torch.nn.Module, str]) -> None:
    version, feed = ModelVersion(saved[0]), flights_feed()
    whole = version.encode_columns(feed.columns("test"), feed.dictionary)
    parts = list(version.batches(feed, "test", batch_size=25))
    assert [len(part["label"]) for part in parts] == [25, 25, 10]
    assert all(torch.equal(torch.cat([part[name] for part in parts]), whole[name]) for name in ("numeric", "categorical", "label"))


@pytest.mark.parametrize("name", ["model.safetensors", "preprocessing.json", "signature.json", "manifest.json"])
def test_a_changed_or_missing_file_is_found_and_named(saved: tuple[Path, torch.nn.Module, str], name: str) -> None:
    folder, _, digest = saved
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=name):
        ModelVersion(folder, digest=digest)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        ModelVersion(folder, digest=digest)


def test_weights_of_another_network_are_refused(saved: tuple[Path, torch.nn.Module, str]) -> None:
    with pytest.raises(JobError, match=r"do not fit the network.*weight"):
        ModelVersion(saved[0]).module(lambda: torch.nn.Linear(2, 2))


def test_equal_models_have_equal_digests_and_a_save_takes_the_place_of_the_last(saved: tuple[Path, torch.nn.Module, str]) -> None:
    folder, net, digest = saved
    fitted = fit(flights_feed())
    assert save_model(folder, net.state_dict(), fitted, {"lr": 0.1})[0] == digest
    assert save_model(folder, net.state_dict(), fitted, {"lr": 0.2})[0] != digest
    assert ModelVersion(folder).params == {"lr": 0.2}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["libraries"]["torch"] == str(torch.__version__)


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    second.weight = first.weight
    save_model(tmp_path / "model", torch.nn.Sequential(first, second).state_dict(), fit(flights_feed()), {})
    module = ModelVersion(tmp_path / "model").module(lambda: torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)))
    assert torch.equal(module[0].weight, module[1].weight)
