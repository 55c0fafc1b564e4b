"""A project loaded from its folder: the spec with every reference checked, errors placed at their line, overrides applied.

Does not know: what will run (`flow.lower`), or what the data looks like.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import ValidationError

from bedplate.core import source as yaml_source
from bedplate.core.errors import SpecError, nearest
from bedplate.core.settings import Settings
from bedplate.core.source import FieldPath, Source
from bedplate.core.spec import FEATURE_KINDS, INPUT_KINDS, MODEL_KINDS, Declared, ImageInputs, Inputs, ProjectSpec, TextInputs

PROJECT_FILE = "bedplate.yaml"
POOLS_FILE = "pools.yaml"


@dataclass(frozen=True)
class Project:
    """A checked project. `root` is its folder, `state` where its ledger, lake and runs are kept."""

    root: Path
    state: Path
    spec: ProjectSpec

    @property
    def name(self) -> str:
        """The project's name."""
        return self.spec.project


def load_project(root: Path, settings: Settings, overrides: Mapping[str, str] | None = None) -> Project:
    """The project in folder `root` (or in the nearest folder above that holds one).

    `overrides` maps `job.param` (or a bare parameter name that one job only has) to a YAML value.
    Raises SpecError with file, line, field, value and fix.
    """
    root = root.resolve()
    folder = next((place for place in (root, *root.parents) if (place / PROJECT_FILE).is_file()), root)
    source = yaml_source.read(folder / PROJECT_FILE)
    _override(source, overrides or {})
    spec = validate(source)
    state = settings.state or folder / ".bedplate"
    return Project(folder, state.resolve(), spec)


def find_pools(root: Path, home: Path) -> Path | None:
    """The file of pools that counts: the project's own, else the one in BEDPLATE_HOME; None where there is neither."""
    return next((place / POOLS_FILE for place in (root, home) if (place / POOLS_FILE).is_file()), None)


def validate(source: Source) -> ProjectSpec:
    """The spec of a parsed file, with all its references checked. Raises SpecError at the first field that is wrong."""
    try:
        spec = ProjectSpec.model_validate(source.values)
    except ValidationError as error:
        raise _placed(source, error) from error
    _check_names(source, spec)
    _check_datasets(source, spec)
    _check_features(source, spec)
    _check_jobs(source, spec)
    _check_models(source, spec)
    return spec


def _placed(source: Source, error: ValidationError) -> SpecError:
    first = error.errors()[0]
    path: FieldPath = tuple(part for part in first["loc"] if part not in ("[key]", *FEATURE_KINDS, *MODEL_KINDS, *INPUT_KINDS.values()))
    value = first.get("input")
    shown: object = value if isinstance(value, str | int | float | bool) else None
    what, fix = first["msg"].removeprefix("Value error, "), "see docs/reference/project-file.md"
    cause = getattr(first.get("ctx", {}).get("error"), "__cause__", None)
    if first["type"] not in ("extra_forbidden", "missing"):
        while path not in source.lines:  # pydantic also names the parts of a union and of a value that was wrapped
            path = path[:-1]
    if isinstance(cause, SpecError):
        what, fix, shown = cause.what, cause.fix or fix, cause.value
    elif first["type"] == "extra_forbidden":
        what, fix, shown = "unknown field", nearest(str(path[-1]), _fields_at(path[:-1])), path[-1]
    elif first["type"] == "missing" and isinstance(path[-1], int):
        path, what, fix, shown = path[:-1], "a list is too short", f"give it {int(path[-1]) + 1} values or more", None
    elif first["type"] == "missing":
        what, fix, shown = "a required field is missing", f"add `{path[-1]}:`", None
    elif first["type"] == "string_pattern_mismatch" and "pattern" in first.get("ctx", {}):
        what, fix = "the value has the wrong form", f"it must match {first['ctx']['pattern']}"
    return source.error(path, what, value=shown, fix=fix)


def _fields_at(path: FieldPath) -> list[str]:
    kinds: list[type[Declared]] = [ProjectSpec]
    chosen = False  # the next part is a name that the user chose: the kinds stay
    for part in path:
        if chosen:
            chosen = False
            continue
        fields = {(info.alias or name): info for kind in kinds for name, info in kind.model_fields.items()}
        if str(part) not in fields:
            return []
        annotation = fields[str(part)].annotation
        kinds, chosen = _declared_in(annotation), get_origin(annotation) is dict
    return [info.alias or name for kind in kinds for name, info in kind.model_fields.items()]


def _declared_in(annotation: Any) -> list[type[Declared]]:
    """The declared kinds that an annotation can stand for, as a rule one."""
    if isinstance(annotation, type) and issubclass(annotation, Declared):
        return [annotation]
    return [kind for part in getattr(annotation, "__args__", ()) for kind in _declared_in(part)]


def _override(source: Source, overrides: Mapping[str, str]) -> None:
    jobs = source.values.get("jobs")
    declared = {name: job.get("params") for name, job in jobs.items() if isinstance(job, dict)} if isinstance(jobs, dict) else {}
    params = {name: values for name, values in declared.items() if isinstance(values, dict)}
    for key, text in overrides.items():
        job, _, param = key.rpartition(".")
        owners = [job] if job else [name for name, values in params.items() if param in values]
        if len(owners) != 1 or param not in params.get(owners[0], {}):
            known = [f"{name}.{param}" for name, values in params.items() for param in values]
            raise SpecError("--set names no parameter of one job", value=key, fix=nearest(key, known))
        try:
            params[owners[0]][param] = yaml_source.parse_value(text)
        except yaml.YAMLError as error:
            raise SpecError(f"--set {key}: not a YAML value", value=text, fix="put quotes around text with special characters") from error


def _check_names(source: Source, spec: ProjectSpec) -> None:
    seen: dict[str, str] = {}
    for noun in ("datasets", "features", "jobs", "models", "endpoints"):
        for name in getattr(spec, noun):
            if name in seen:
                fix = f"rename one: {seen[name]} already has this name, and versions and steps are called by it"
                raise source.error((noun, name), "the name is taken", value=name, fix=fix)
            seen[name] = noun


def _known(source: Source, path: FieldPath, name: str, known: Iterable[str], noun: str) -> None:
    choices = list(known)
    if name not in choices:
        raise source.error(path, f"no such {noun}", value=name, fix=nearest(name, choices))


def _check_column(source: Source, path: FieldPath, column: str, columns: Iterable[str], dataset: str) -> None:
    choices = list(columns)
    if choices and column not in choices:
        raise source.error(path, f"dataset {dataset!r} declares no such column", value=column, fix=nearest(column, choices))


def _columns(spec: ProjectSpec, dataset: str) -> list[str]:
    declared = spec.datasets[dataset]
    return [*declared.columns, *declared.derive] if declared.columns else []


def _check_datasets(source: Source, spec: ProjectSpec) -> None:
    for name, dataset in spec.datasets.items():
        for place, expectation in enumerate(dataset.expect):
            for column in expectation.columns:
                _check_column(source, ("datasets", name, "expect", place, expectation.rule), column, dataset.columns, name)


def _check_features(source: Source, spec: ProjectSpec) -> None:
    for name, dataset in spec.datasets.items():
        for field in ("event_time", "known_at"):
            column = getattr(dataset, field)
            if column is not None:
                _check_column(source, ("datasets", name, field), column, _columns(spec, name), name)
        for column in dataset.key:
            _check_column(source, ("datasets", name, "key"), column, _columns(spec, name), name)
    for name, feature in spec.stored(spec.features).items():
        path = ("features", name)
        _known(source, (*path, "from"), feature.from_, spec.datasets, "dataset")
        if spec.datasets[feature.from_].known_at is None and not spec.datasets[feature.from_].is_made:
            fix = f"add `known_at: COLUMN` to datasets.{feature.from_}: a feature may use a value only from the time it was known"
            raise source.error((*path, "from"), "the dataset does not say when its rows are known", value=feature.from_, fix=fix)
        for field, columns in (
            ("entity", feature.entity),
            ("aggregates", feature.aggregates),
            ("columns", feature.columns),
        ):
            for column in columns:
                _check_column(source, (*path, field), column, _columns(spec, feature.from_), feature.from_)


def _check_jobs(source: Source, spec: ProjectSpec) -> None:
    writers: dict[str, str] = {}
    for name, job in spec.jobs.items():
        for output in job.outputs:
            if output in writers:
                raise source.error(
                    ("jobs", name, "outputs"),
                    f"job {writers[output]!r} writes this too",
                    value=output,
                    fix="let one job write it",
                )
            writers[output] = name
        if job.base is not None:
            _known(source, ("jobs", name, "base"), job.base, spec.models, "model")
            if job.base in spec.trained and spec.trained[job.base].from_ == name:
                fix = "start from another model, or take `base` away"
                raise source.error(("jobs", name, "base"), "a job cannot start from the model that it trains", value=job.base, fix=fix)
        if isinstance(job.inputs, Inputs):
            _check_inputs(source, spec, name, job.inputs)
        elif job.inputs is not None:
            _check_samples(source, spec, name, job.inputs)


def _check_inputs(source: Source, spec: ProjectSpec, job: str, inputs: Inputs) -> None:
    path = ("jobs", job, "inputs")
    _known(source, (*path, "spine"), inputs.spine, spec.datasets, "dataset")
    spine = spec.datasets[inputs.spine]
    for field in ("known_at", "key"):
        if not getattr(spine, field):
            raise source.error(
                (*path, "spine"),
                f"the spine needs `{field}`",
                value=inputs.spine,
                fix=f"add it to datasets.{inputs.spine}",
            )
    label_dataset, _, label = inputs.label.partition(".")
    _known(source, (*path, "label"), label_dataset, spec.datasets, "dataset")
    _check_column(source, (*path, "label"), label, _columns(spec, label_dataset), label_dataset)
    if spec.datasets[label_dataset].key != spine.key:
        fix = f"give datasets.{label_dataset} the key {list(spine.key)}: label and spine are joined by it"
        raise source.error((*path, "label"), "the label's dataset has another key than the spine", value=label_dataset, fix=fix)
    for column in inputs.columns:
        _check_column(source, (*path, "columns"), column, _columns(spec, inputs.spine), inputs.spine)
    for feature in inputs.features:
        _known(source, (*path, "features"), feature, spec.features, "feature")
    for view in spec.stored(inputs.features).values():
        for column in view.entity:
            _check_column(source, (*path, "features"), column, _columns(spec, inputs.spine), inputs.spine)
    stored, computed = spec.stored(inputs.features), spec.on_demand(inputs.features)
    for place, (name, function) in enumerate(computed.items()):
        ready = [*stored, *list(computed)[:place]]
        for column in function.inputs:
            other, separator, _ = column.partition("__")
            if separator and other in spec.features:
                if other not in ready:
                    fix = f"add {other!r} to the job's features, before {name!r}"
                    raise source.error((*path, "features"), f"feature {name!r} needs another", value=column, fix=fix)
            else:
                _check_column(source, ("features", name, "inputs"), column, _columns(spec, inputs.spine), inputs.spine)


def _check_samples(source: Source, spec: ProjectSpec, job: str, inputs: TextInputs | ImageInputs) -> None:
    path = ("jobs", job, "inputs")
    places = {"text": inputs.text} if isinstance(inputs, TextInputs) else {"images": inputs.images, "label": inputs.label}
    for field, place in places.items():
        if place is not None:
            dataset, _, column = place.partition(".")
            _known(source, (*path, field), dataset, spec.datasets, "dataset")
            _check_column(source, (*path, field), column, _columns(spec, dataset), dataset)
    if isinstance(inputs, TextInputs) and inputs.tokenizer in spec.jobs:
        files = [output for output in spec.jobs[inputs.tokenizer].outputs if "://" not in output]
        if len(files) != 1:
            fix = "give it one file in `outputs`, or name the file itself"
            raise source.error((*path, "tokenizer"), "the job does not write one file", value=inputs.tokenizer, fix=fix)


def _check_models(source: Source, spec: ProjectSpec) -> None:
    trained: dict[str, str] = {}
    for name, model in spec.trained.items():
        path = ("models", name, "from")
        _known(source, path, model.from_, spec.jobs, "job")
        if spec.jobs[model.from_].inputs is None:
            raise source.error(
                path,
                "the job has no inputs to evaluate a model on",
                value=model.from_,
                fix=f"add `inputs` to jobs.{model.from_}",
            )
        if model.from_ in trained:
            raise source.error(
                path,
                f"model {trained[model.from_]!r} comes from this job too",
                value=model.from_,
                fix="give each model a job of its own",
            )
        trained[model.from_] = name
    for name, endpoint in spec.endpoints.items():
        model_name, _, alias = endpoint.model.partition("@")
        _known(source, ("endpoints", name, "model"), model_name, spec.trained, "model")
        if not isinstance(spec.jobs[spec.trained[model_name].from_].inputs, Inputs):
            fix = "serve models of tables here; load a model of text or images with `bedplate.train.bundle.ModelVersion`"
            raise source.error(
                ("endpoints", name, "model"), "an endpoint looks up rows, and this model takes none", value=model_name, fix=fix
            )
        if spec.trained[model_name].promote.to != alias:
            fix = f"use {model_name}@{spec.trained[model_name].promote.to}, or change models.{model_name}.promote.to"
            raise source.error(("endpoints", name, "model"), "nothing moves this alias", value=endpoint.model, fix=fix)
