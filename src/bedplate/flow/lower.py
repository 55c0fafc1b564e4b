"""Lowering: a project becomes the steps that make its outputs. Pure.

Step names are what a person sees: a dataset, a feature, a job and a model give their own name, `JOB.inputs` is a job's training set
and `ENDPOINT.features` an endpoint's online store. What is in a step's `spec` is in its fingerprint: resources, checkpoint intervals
and time limits are left out, because the result does not depend on them.
Does not know: what exists already (`stale`) or where anything runs (`cluster.place`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from bedplate.core.errors import NotFound, SpecError, nearest
from bedplate.core.loading import load
from bedplate.core.plan import Step
from bedplate.core.spec import Dataset, Endpoint, Feature, ImageInputs, Imported, Inputs, Job, ProjectSpec, TextInputs
from bedplate.flow.tables import QUERIES
from bedplate.models.declared_rules import to_measure

FORMATS: Mapping[str, int] = {  # raised when the meaning of a step's output changes, so that old outputs are made anew
    "job": 1,
    "ingest": 1,
    "transform": 1,
    "feature": 2,  # views hold events in order, for what is no difference of sums
    "training_set": 1,
    "train": 1,
    "model": 1,
    "gate": 1,
    "online": 2,  # rows and views are packed by entity, from cuts
    "endpoint": 1,
}
STORED = ("source", "key", "columns")  # the fields of a dataset on which its stored rows depend


def lower(spec: ProjectSpec) -> tuple[Step, ...]:
    """All steps of a project, each after what it needs. Raises SpecError for jobs that start from one another's models."""
    writers = {output: name for name, job in spec.jobs.items() for output in job.outputs}
    steps = [
        *(_model(name, model) for name, model in spec.imported.items()),
        *(_job(name, job) for name, job in spec.jobs.items() if job.inputs is None),
        *(_ingest(name, dataset, writers) for name, dataset in spec.datasets.items() if not dataset.is_made),
        *(_transform(name, dataset, spec) for name, dataset in spec.datasets.items() if dataset.is_made),
        *(_feature(name, feature, spec) for name, feature in spec.stored(spec.features).items()),
    ]
    for name, job in spec.jobs.items():
        if job.inputs is not None:
            steps += [_training_set(name, job, spec), _train(name, job, spec)]
    steps += [_gate(name, spec) for name in spec.trained]
    for name in spec.endpoints:
        steps += [_online(name, spec), _endpoint(name, spec)]
    return _ordered(steps)


def _ordered(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps as they are, but each after what it needs: a job may start from a model that another one trains."""
    left, placed = {step.name: step for step in steps}, dict[str, Step]()
    while left:
        ready = next((step for step in left.values() if not any(need in left for need in step.needs)), None)
        if ready is None:
            fix = "take one `base`, or one dataset of a query, away"
            raise SpecError("jobs or datasets start from one another", value=", ".join(left), fix=fix)
        placed[ready.name] = left.pop(ready.name)
    return tuple(placed.values())


def select(steps: Iterable[Step], targets: Iterable[str]) -> tuple[Step, ...]:
    """The steps that make `targets` and all that they need, in order; all steps for no targets. Raises NotFound."""
    by_name = {step.name: step for step in steps}
    wanted: set[str] = set()
    queue = list(targets) or list(by_name)
    while queue:
        name = queue.pop()
        if name not in by_name:
            raise NotFound("no such target", value=name, fix=nearest(name, by_name))
        if name not in wanted:
            wanted.add(name)
            queue.extend(by_name[name].needs)
    return tuple(step for step in by_name.values() if step.name in wanted)


def _step_spec(kind: str, **values: Any) -> dict[str, Any]:
    return {"format": FORMATS[kind], **values}


def _dataset(dataset: Dataset) -> dict[str, Any]:
    told = {"subject", "license", "residency", "expect", "retention", "options"}
    values = dataset.model_dump(mode="json", exclude=told)
    return {name: value for name, value in values.items() if value or name not in ("source", "sql", "python", "reads")}


def _entry_files(job: Job) -> tuple[str, ...]:
    if job.function:
        return (job.function.partition(":")[0],)
    return tuple(word for word in shlex.split(job.command or "") if PurePosixPath(word).suffix == ".py")


def _numbers(job: Job) -> dict[str, Any]:
    """The settings on which trained numbers depend by more than rounding: not the mesh, nor how a batch is cut."""
    return {} if job.precision == "fp32" else {"precision": job.precision}


def _job(name: str, job: Job) -> Step:
    spec = _step_spec("job", function=job.function, command=job.command, params=job.params, outputs=list(job.outputs), **_numbers(job))
    return Step(name, "job", _base(job), {**spec, **_based(job)}, _entry_files(job), job.code, resources=job.resources)


def _model(name: str, model: Imported) -> Step:
    """A model from elsewhere. A folder is a source, watched for change; what lies at an address is taken to stay."""
    values = _step_spec("model", **model.model_dump(mode="json", by_alias=True))
    sources = (model.from_,) if model.from_.startswith("dir://") else ()
    return Step(name, "model", (), values, sources=sources)


def _base(job: Job) -> tuple[str, ...]:
    return (job.base,) if job.base is not None else ()


def _based(job: Job) -> dict[str, Any]:
    """What a step is told of the model that it starts from; nothing where there is none."""
    return {"base": job.base} if job.base is not None else {}


def _ingest(name: str, dataset: Dataset, writers: Mapping[str, str]) -> Step:
    writer = writers.get(dataset.source)
    stored = {field: value for field, value in _dataset(dataset).items() if field in STORED}
    if dataset.options:
        stored["options"] = dict(dataset.options)
    stored |= _expected(dataset)
    needs, sources = ((writer,), ()) if writer else ((), (dataset.source,))
    reads = (dataset.source,) if writer else ()
    return Step(name, "ingest", needs, _step_spec("ingest", dataset=stored), sources=sources, reads=reads)


def _expected(dataset: Dataset) -> dict[str, Any]:
    """What a version is accepted under; of freshness and samples these say which column counts."""
    told = {"expect", "event_time", "known_at", "subject"}
    return dataset.model_dump(mode="json", include=told, exclude_defaults=True) if dataset.expect else {}


def _transform(name: str, dataset: Dataset, spec: ProjectSpec) -> Step:
    field = f"datasets.{name}.{'sql' if dataset.sql else 'reads'}"
    why_full = "a function may read any row"
    reads = dataset.reads
    if dataset.sql is not None:
        query = load(QUERIES, "parsed", "pass")(dataset.sql, field)
        reads, why_full = query.tables, query.why_full
    for each in reads:
        if each not in spec.datasets or each == name:
            known = [other for other in spec.datasets if other != name]
            raise SpecError("it reads a dataset that is not declared", field=field, value=each, fix=nearest(each, known))
    if not reads:
        raise SpecError("it reads no dataset", field=field, value=dataset.sql, fix="select from a dataset")
    stored = {key: value for key, value in _dataset(dataset).items() if key in ("sql", "python", "reads", "key", "columns")}
    parts = {each: _dataset(spec.datasets[each]) for each in reads}
    values = _step_spec("transform", dataset=stored | _expected(dataset), parts=parts, why_full=why_full)
    entries = (dataset.python.partition(":")[0],) if dataset.python else ()
    return Step(name, "transform", tuple(reads), values, entries)


def _feature(name: str, feature: Feature, spec: ProjectSpec) -> Step:
    values = _step_spec("feature", feature=feature.model_dump(mode="json", by_alias=True), dataset=_dataset(spec.datasets[feature.from_]))
    return Step(name, "feature", (feature.from_,), values)


def _training_set(name: str, job: Job, spec: ProjectSpec) -> Step:
    if not isinstance(job.inputs, Inputs):
        return _samples(name, job, spec)
    label_dataset = job.inputs.label.partition(".")[0]
    needs = dict.fromkeys([job.inputs.spine, label_dataset, *spec.stored(job.inputs.features)])
    values = _step_spec(
        "training_set",
        inputs=job.inputs.model_dump(mode="json"),
        split=job.split.model_dump(mode="json"),
        datasets={dataset: _dataset(spec.datasets[dataset]) for dataset in (job.inputs.spine, label_dataset)},
        **_on_demand(job.inputs, spec),
    )
    return Step(f"{name}.inputs", "training_set", tuple(needs), values, _function_files(job.inputs, spec))


def _on_demand(inputs: Inputs, spec: ProjectSpec) -> dict[str, Any]:
    """What a step is told of the functions among a job's features; nothing where there are none."""
    declared = {name: feature.model_dump(mode="json") for name, feature in spec.on_demand(inputs.features).items()}
    return {"on_demand": declared} if declared else {}


def _function_files(inputs: Inputs, spec: ProjectSpec) -> tuple[str, ...]:
    return tuple(dict.fromkeys(feature.function.partition(":")[0] for feature in spec.on_demand(inputs.features).values()))


def _samples(name: str, job: Job, spec: ProjectSpec) -> Step:
    """The training set of text or images. A tokenizer that no job writes is a file of the project, a source."""
    inputs = job.inputs
    assert isinstance(inputs, TextInputs | ImageInputs)
    values = _step_spec(
        "training_set",
        inputs=inputs.model_dump(mode="json"),
        split=job.split.model_dump(mode="json"),
        datasets={inputs.dataset: _dataset(spec.datasets[inputs.dataset])},
    )
    if isinstance(inputs, ImageInputs):
        return Step(f"{name}.inputs", "training_set", (inputs.dataset,), values)
    outputs = spec.jobs[inputs.tokenizer].outputs if inputs.tokenizer in spec.jobs else (inputs.tokenizer,)
    file = next(output for output in outputs if "://" not in output)
    values["tokenizer"] = file
    writer = next((owner for owner, each in spec.jobs.items() if file in each.outputs), None)
    if writer is None:
        return Step(f"{name}.inputs", "training_set", (inputs.dataset,), values, sources=(file,))
    return Step(f"{name}.inputs", "training_set", (inputs.dataset, writer), values, reads=(inputs.dataset, file))


def _train(name: str, job: Job, spec: ProjectSpec) -> Step:
    model = next((model for model, declared in spec.trained.items() if declared.from_ == name), name)
    outputs = list(job.outputs)
    values = _step_spec(
        "train", function=job.function, command=job.command, params=job.params, model=model, outputs=outputs, **_numbers(job)
    )
    needs = (f"{name}.inputs", *_base(job))
    return Step(name, "train", needs, {**values, **_based(job)}, _entry_files(job), job.code, resources=job.resources)


def _gate(name: str, spec: ProjectSpec) -> Step:
    model = spec.trained[name]
    job = spec.jobs[model.from_]
    promote = model.promote.model_dump(mode="json", exclude=set() if model.promote.approvals else {"approvals"})
    timed = bool(to_measure(model.promote) - {"size_bytes"})
    values = _step_spec("gate", evaluate=model.evaluate, promote=promote, model=name, **({"predict": model.predict} if timed else {}))
    files = (model.evaluate, *((model.predict,) if timed else ()))
    entries = tuple(dict.fromkeys(entry.partition(":")[0] for entry in files))
    return Step(name, "gate", (model.from_, f"{model.from_}.inputs"), values, entries, job.code)


def _serving(endpoint: str, spec: ProjectSpec) -> tuple[str, Job]:
    model = spec.endpoints[endpoint].model.partition("@")[0]
    return model, spec.jobs[spec.trained[model].from_]


def _online(endpoint: str, spec: ProjectSpec) -> Step:
    _, job = _serving(endpoint, spec)
    assert isinstance(job.inputs, Inputs)
    views = spec.stored(job.inputs.features)
    datasets = dict.fromkeys([job.inputs.spine, *(view.from_ for view in views.values())])
    values = _step_spec(
        "online",
        features={name: view.model_dump(mode="json", by_alias=True) for name, view in views.items()},
        datasets={name: _dataset(spec.datasets[name]) for name in datasets},
        store=spec.endpoints[endpoint].store,
    )
    return Step(f"{endpoint}.features", "online", (*datasets, *views), values)


def _endpoint(name: str, spec: ProjectSpec) -> Step:
    model, job = _serving(name, spec)
    assert isinstance(job.inputs, Inputs)
    declared = spec.trained[model]
    values = _step_spec(
        "endpoint",
        model=model,
        alias=spec.endpoints[name].model.partition("@")[2],
        port=spec.endpoints[name].port,
        **_limits(spec.endpoints[name]),
        predict=declared.predict,
        inputs=job.inputs.model_dump(mode="json"),
        spine=_dataset(spec.datasets[job.inputs.spine]),
        views={name: _view_key(view, spec) for name, view in spec.stored(job.inputs.features).items()},
        **_on_demand(job.inputs, spec),
    )
    entries = tuple(dict.fromkeys([declared.predict.partition(":")[0], *_function_files(job.inputs, spec)]))
    return Step(name, "endpoint", (model, f"{name}.features"), values, entries, job.code)


def _limits(endpoint: Endpoint) -> dict[str, Any]:
    """How much an endpoint answers at once and how long it takes; nothing where all is as it is by default."""
    values = endpoint.model_dump(mode="json", include={"batching", "deadline", "queue", "keys"}, exclude_defaults=True)
    scaling = endpoint.model_dump(mode="json", by_alias=True, include={"replicas", "scale", "rollout"}, exclude_none=True)
    return {**({"limits": values} if values else {}), **({"scaling": scaling} if scaling else {})}


def _view_key(feature: Feature, spec: ProjectSpec) -> dict[str, Any]:
    return {"entity": list(feature.entity), "dataset": feature.from_, "key": list(spec.datasets[feature.from_].key)}
