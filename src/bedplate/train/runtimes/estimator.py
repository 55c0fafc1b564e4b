"""Estimators of scikit-learn as files of skops: types and arrays by name, never pickle.

A file is read only when every type in it is scikit-learn's, numpy's or scipy's own (https://skops.readthedocs.io/en/stable/persistence.html).
Does not know: versions, or what the estimator was fitted on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import sklearn
import skops
import skops.io

from bedplate.core.errors import JobError


def write(estimator: Any, path: Path) -> dict[str, str]:
    """Write a fitted estimator to `path`; returns the versions of the libraries that it is made of.

    Raises JobError, naming them, for an estimator that holds types of the user's own: they could not be read again without running code.
    """
    skops.io.dump(estimator, path)
    foreign = skops.io.get_untrusted_types(file=path)
    if foreign:
        fix = "build it of scikit-learn's own parts, or write it as ONNX"
        raise JobError("the estimator holds types that cannot be kept safely", value=", ".join(foreign), fix=fix)
    return {"scikit-learn": str(sklearn.__version__), "skops": str(skops.__version__)}


def read(path: Path) -> Any:
    """The estimator in `path`. Raises JobError for a file with types that are not known to be safe, naming them."""
    foreign = skops.io.get_untrusted_types(file=path)
    if foreign:
        fix = "write it again from scikit-learn's own parts"
        raise JobError("the model's file names types that are not known to be safe", value=", ".join(foreign), fix=fix)
    return skops.io.load(path, trusted=[])


def described(estimator: Any) -> dict[str, Any]:
    """`inputs` and `outputs` of a fitted estimator, as it tells them itself."""
    names = [str(name) for name in getattr(estimator, "feature_names_in_", [])]
    width = int(getattr(estimator, "n_features_in_", len(names)))
    inputs = [{"name": name, "dtype": "float64", "shape": [-1]} for name in names]
    classes = getattr(estimator, "classes_", None)
    kind = "float64" if classes is None else str(numpy.asarray(classes).dtype)
    kind = "string" if kind.startswith(("<U", "object")) else kind
    outputs = [{"name": "prediction", "dtype": kind, "shape": [-1]}]
    return {"inputs": inputs or [{"name": "inputs", "dtype": "float64", "shape": [-1, width]}], "outputs": outputs}


def example(estimator: Any) -> dict[str, Any]:
    """One row of zeros, in the form that the estimator takes."""
    names = [str(name) for name in getattr(estimator, "feature_names_in_", [])]
    width = int(getattr(estimator, "n_features_in_", len(names)))
    return {"inputs": [dict.fromkeys(names, 0.0)] if names else [[0.0] * width]}
