"""Models that jobs without a training loop make: an estimator that a function saves, or files that a command left.

Does not know: how a model is trained, or which files are safe (`models.packaging`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bedplate.core.attempt import Attempt
from bedplate.core.errors import JobError
from bedplate.core.imported import environment_lock
from bedplate.core.loading import Entry, load
from bedplate.core.package import OBJECTS, open_package
from bedplate.core.versions import Output
from bedplate.models.packaging.assemble import assemble, through_store

MODEL_FOLDER = "model"
BASE_META = "base"

ESTIMATORS: Mapping[str, Entry] = {
    "write": Entry("bedplate.train.runtimes.estimator:write", "an estimator of scikit-learn as a skops file", "sklearn"),
    "signature": Entry("bedplate.train.runtimes.estimator:described", "what an estimator takes and gives", "sklearn"),
}


def folder_output(attempt: Attempt) -> Output | None:
    """The files that a command left in `$BEDPLATE_OUT/model`, as a version to be; None when there are none.

    Raises UnsafeArtifact for a file that could run code, and DataError when no weights are among them.
    """
    left = attempt.out / MODEL_FOLDER
    if not left.is_dir() or not any(left.iterdir()):
        return None
    packages = attempt.spec.get("packages")
    environment = {**environment_lock(), "packages": packages} if packages is not None else None
    return packaged(attempt, left, environment=environment)


def saved_output(attempt: Attempt, model: Any, signature: Mapping[str, Any] | None) -> Output:
    """An estimator of scikit-learn, or a folder of model files, as a version to be. Raises JobError for anything else."""
    scratch = attempt.out / "saved"
    scratch.mkdir(parents=True, exist_ok=True)
    if isinstance(model, str | Path):
        return packaged(attempt, Path(model), signature=signature)
    if not any(kind.__module__.partition(".")[0] == "sklearn" for kind in type(model).__mro__):
        fix = "save an estimator of scikit-learn, or a folder with safetensors, ONNX, torch.export, XGBoost or LightGBM files"
        raise JobError("this is no model that can be saved", value=type(model).__name__, fix=fix)
    write: Callable[[Any, Path], dict[str, str]] = load(ESTIMATORS, "write", "format")
    libraries = write(model, scratch / "model.skops")
    told = signature if signature is not None else load(ESTIMATORS, "signature", "format")(model)
    return packaged(attempt, scratch, signature=told, libraries=libraries)


def packaged(
    attempt: Attempt,
    source: Path,
    *,
    signature: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    libraries: Mapping[str, str] | None = None,
) -> Output:
    """The files below `source` as a version to be, which names the model that the job started from."""
    facts = {"params": dict(attempt.spec.get("params", {})), "libraries": dict(libraries or {}), **base_facts(attempt)}
    folder = attempt.out / "version"
    digest, manifest = assemble(
        source,
        folder,
        facts=facts,
        trusted=attempt.spec.get("trusted", ()),
        place=through_store(Path(attempt.state) / OBJECTS),
        signature=signature,
        environment=environment,
    )
    meta = {name: manifest[name] for name in ("params", "weights", "files", BASE_META) if name in manifest}
    name = str(attempt.spec.get("model", attempt.step))
    return Output(name, "model", digest, str(folder.relative_to(attempt.state)), meta)


def base_facts(attempt: Attempt) -> dict[str, Any]:
    """`base`: the version that a job started from, its digest and license; nothing for a job that started from none."""
    base = attempt.spec.get("base")
    if base is None:
        return {}
    values = attempt.inputs[base]
    facts = {"version": f"{values['name']}@{values['number']}", "digest": values["digest"]}
    if values["meta"].get("license"):
        facts["license"] = values["meta"]["license"]
    return {BASE_META: facts}


def base_folder(attempt: Attempt) -> Path:
    """The files of the model that a job starts from, checked against their digests. Raises JobError for a job without `base`."""
    base = attempt.spec.get("base")
    if base is None:
        raise JobError("the job starts from no model", value=attempt.step, fix="declare `base: MODEL` for the job")
    values = attempt.inputs[base]
    open_package(Path(values["path"]), values["digest"])
    return Path(values["path"])
