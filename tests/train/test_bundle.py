import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest
import torch
from sklearn.linear_model import LinearRegression

from bedplate.core.errors import CheckpointError, JobError
from bedplate.core.package import seal
from bedplate.train.bundle import ModelVersion, is_estimator, save_estimator, save_model
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


def test_a_version_is_complete_with_signature_example_and_environment(saved: tuple[Path, torch.nn.Module, str]) -> None:
    folder = saved[0]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"model.safetensors", "signature.json", "example.json", "environment.json", "preprocessing.json"} == set(manifest["files"])
    assert json.loads((folder / "environment.json").read_text())["packages"]["safetensors"] == manifest["libraries"]["safetensors"]
    version = ModelVersion(folder)
    assert version.encode(json.loads((folder / "example.json").read_text())["inputs"])["numeric"].shape[0] == 1
    with pytest.raises(JobError, match="this model is no estimator"):
        version.estimator()


def test_an_estimator_of_scikit_learn_is_saved_with_its_preprocessing(tmp_path: Path) -> None:
    feed = flights_feed()
    fitted = fit(feed)
    batch = fitted.encode_columns(feed.columns("train"), feed.dictionary)
    estimator = LinearRegression().fit(batch["numeric"], batch["label"])
    assert is_estimator(estimator)
    assert not is_estimator(torch.nn.Linear(1, 1))
    digest, manifest = save_estimator(tmp_path / "model", estimator, fitted, {})
    assert manifest["libraries"]["scikit-learn"]
    version = ModelVersion(tmp_path / "model", digest=digest)
    rows = version.encode(ROWS)["numeric"].numpy()
    assert numpy.array_equal(version.estimator().predict(rows), estimator.predict(rows))
    assert version.estimator() is version.estimator()


def test_a_model_from_elsewhere_has_files_but_no_preprocessing(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("weights")
    seal(tmp_path / "model", {})
    version = ModelVersion(tmp_path / "model")
    assert version.params == {}
    with pytest.raises(JobError, match="no fitted preprocessing"):
        version.encode(ROWS)


def test_a_save_that_fails_leaves_the_model_that_was_there(saved: tuple[Path, torch.nn.Module, str]) -> None:
    folder, net, digest = saved
    with pytest.raises(TypeError):
        save_model(folder, net.state_dict(), fit(flights_feed()), {"open": object()})
    assert ModelVersion(folder, digest=digest).params == {"lr": 0.1}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int8, torch.bool])
def test_weights_keep_their_type_and_lie_as_they_may(tmp_path: Path, dtype: torch.dtype) -> None:
    class Holds(torch.nn.Module):
        def __init__(self, values: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("values", values)

    values = torch.tensor([[1, 0, 1], [0, 0, 1]]).to(dtype).t()  # not contiguous
    save_model(tmp_path / "model", {"values": values}, fit(flights_feed()), {})
    module = ModelVersion(tmp_path / "model").module(lambda: Holds(torch.zeros(3, 2, dtype=dtype)))
    assert module.values.dtype == dtype
    assert torch.equal(module.values, values)


def test_what_was_saved_does_not_change_with_the_training_that_goes_on(saved: tuple[Path, torch.nn.Module, str]) -> None:
    folder, net, _ = saved
    before = net(ModelVersion(folder).encode(ROWS)).tolist()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    version = ModelVersion(folder)
    assert version.module(lambda: build_net(version.signature))(version.encode(ROWS)).tolist() == before


def test_a_served_model_needs_no_gradients(saved: tuple[Path, torch.nn.Module, str]) -> None:
    version = ModelVersion(saved[0])
    module = version.module(lambda: build_net(version.signature))
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not module(version.encode(ROWS)).requires_grad


def test_threads_that_ask_at_once_get_one_network(saved: tuple[Path, torch.nn.Module, str]) -> None:
    version, built = ModelVersion(saved[0]), []

    def build() -> torch.nn.Module:
        built.append(1)
        return build_net(version.signature)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: version.module(build), range(32)))
    assert built == [1]
    assert len({id(each) for each in found}) == 1


def test_a_network_that_did_not_fit_is_not_kept(saved: tuple[Path, torch.nn.Module, str]) -> None:
    version = ModelVersion(saved[0])
    with pytest.raises(JobError, match="the same code, signature and params"):
        version.module(lambda: torch.nn.Linear(2, 2))
    assert version.module(lambda: build_net(version.signature))(version.encode(ROWS)).shape == (2,)


def test_another_digest_is_another_version(saved: tuple[Path, torch.nn.Module, str]) -> None:
    with pytest.raises(CheckpointError, match=r"manifest was changed.*manifest\.json"):
        ModelVersion(saved[0], digest="0" * 64)


@pytest.mark.parametrize("batch_size", [1, 7, 60, 61, 1000])
def test_a_split_is_dealt_whole_whatever_the_size_of_a_batch(saved: tuple[Path, torch.nn.Module, str], batch_size: int) -> None:
    sizes = [len(part["label"]) for part in ModelVersion(saved[0]).batches(flights_feed(), "test", batch_size)]
    assert sum(sizes) == 60
    assert set(sizes[:-1]) <= {batch_size}
    assert 0 < sizes[-1] <= batch_size


class Regression(LinearRegression):
    """A user's own, of a module of its own."""


@pytest.mark.parametrize(
    ("model", "expected"), [(Regression(), True), (LinearRegression, False), (object(), False), ({"get_params": 1}, False), (None, False)]
)
def test_what_is_an_estimator(model: object, expected: bool) -> None:
    assert is_estimator(model) is expected
