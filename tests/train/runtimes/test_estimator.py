"""Estimators of scikit-learn by skops: the same answers, and no type that nobody knows."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from bedplate.core.errors import JobError
from bedplate.train.runtimes.estimator import described, example, read, write


def double(values: numpy.ndarray) -> numpy.ndarray:
    return 2 * values


def test_a_pipeline_answers_as_before(tmp_path: Path) -> None:
    rows, labels = load_iris(return_X_y=True)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(rows, labels)
    assert set(write(fitted, tmp_path / "model.skops")) == {"scikit-learn", "skops"}
    again = read(tmp_path / "model.skops")
    assert numpy.array_equal(again.predict_proba(rows), fitted.predict_proba(rows))
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        assert not any(name.endswith((".pkl", ".pickle")) for name in archive.namelist())


def test_a_type_of_the_users_own_is_refused_when_it_is_written_and_when_it_is_read(tmp_path: Path) -> None:
    rows, labels = load_iris(return_X_y=True)
    fitted = make_pipeline(FunctionTransformer(double), LogisticRegression(max_iter=500)).fit(rows, labels)
    with pytest.raises(JobError, match=r"types that cannot be kept safely.*double"):
        write(fitted, tmp_path / "model.skops")
    with pytest.raises(JobError, match=r"types that are not known to be safe.*double"):
        read(tmp_path / "model.skops")


def test_an_estimator_describes_itself() -> None:
    rows, labels = load_iris(return_X_y=True)
    names = numpy.array(["setosa", "versicolor", "virginica"])
    plain = LogisticRegression(max_iter=500).fit(rows, names[labels])
    assert described(plain) == {
        "inputs": [{"name": "inputs", "dtype": "float64", "shape": [-1, 4]}],
        "outputs": [{"name": "prediction", "dtype": "string", "shape": [-1]}],
    }
    assert example(plain) == {"inputs": [[0.0] * 4]}
    plain.feature_names_in_ = numpy.array(["a", "b", "c", "d"], dtype=object)
    assert [each["name"] for each in described(plain)["inputs"]] == ["a", "b", "c", "d"]
    assert example(plain) == {"inputs": [dict.fromkeys("abcd", 0.0)]}
