"""A project from its folder: every reference is checked, and every mistake is one line with file, line, field, value and fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import SpecError
from bedplate.core.project import Project, load_project, validate
from bedplate.core.settings import Settings
from bedplate.core.source import parse
from bedplate.core.spec import ImageInputs, TextInputs

TEXT = """\
project: flights
datasets:
  departures: {source: "log://departures", key: [flight, origin], known_at: departed_at}
  arrivals:
    source: "log://arrivals"
    key: [flight, origin]
    known_at: arrived_at
    columns: {flight: int, origin: string, dest: string, arrived_at: timestamp, gain: float}
    derive: {late: gain < 0}
  weather: {source: data/weather.csv.gz, event_time: observed_at}
features:
  route_gain: {from: arrivals, entity: [origin, dest], windows: [6h, 24h], aggregates: {gain: [mean, count]}}
jobs:
  train_delay:
    function: train.py:train
    inputs: {spine: departures, columns: [distance], label: arrivals.gain, features: [route_gain]}
    split: {by: time, valid: 10%, test: 20%}
    params: {lr: 1.0e-3, epochs: 2}
    resources: {workers: 2, accelerators: "0..1"}
  report:
    command: python report.py
    params: {epochs: 1, title: weekly}
    outputs: [report.html]
models:
  delay: {from: train_delay, evaluate: train.py:evaluate, predict: train.py:predict}
endpoints:
  delay-api: {model: delay@production}
"""

# What a person wrote in place of what stands above, and the whole line that they read.
MISTAKES = [
    (
        "event_time: observed_at",
        "event_tme: observed_at",
        "10: datasets.weather.event_tme: unknown field (got 'event_tme'). Fix: did you mean 'event_time'?",
    ),
    (
        "endpoints:",
        "endpoint:",
        "26: endpoint: unknown field (got 'endpoint'). Fix: did you mean 'endpoints'?",
    ),
    (
        "split: {by: time",
        "split: {bye: time",
        "17: jobs.train_delay.split.bye: unknown field (got 'bye'). Fix: did you mean 'by'?",
    ),
    (
        "project: flights",
        "# project: flights",
        "2: project: a required field is missing. Fix: add `project:`",
    ),
    (
        "{from: train_delay, evaluate",
        "{evaluate",
        "25: models.delay.from: a required field is missing. Fix: add `from:`",
    ),
    (
        "project: flights",
        "project: Flights of 2013",
        "1: project: the value has the wrong form (got 'Flights of 2013'). Fix: it must match ^[a-z][a-z0-9_-]{0,62}$",
    ),
    (
        "  report:",
        "  Report:",
        "20: jobs.Report: the value has the wrong form (got 'Report'). Fix: it must match ^[a-z][a-z0-9_-]{0,62}$",
    ),
    (
        "workers: 2",
        "workers: two",
        "19: jobs.train_delay.resources.workers: Input should be a valid integer, unable to parse string as an integer (got 'two'). "
        "Fix: see docs/reference/project-file.md",
    ),
    (
        "workers: 2",
        "workers: 0",
        "19: jobs.train_delay.resources.workers: Input should be greater than or equal to 1 (got 0). "
        "Fix: see docs/reference/project-file.md",
    ),
    (
        "params: {lr: 1.0e-3",
        "params: {lr: [1, 2]",
        "18: jobs.train_delay.params.lr: Input should be a valid string. Fix: see docs/reference/project-file.md",
    ),
    (
        "gain: float",
        "gain: double",
        "8: datasets.arrivals.columns.gain: Input should be 'string', 'int', 'float', 'bool' or 'timestamp' (got 'double'). "
        "Fix: see docs/reference/project-file.md",
    ),
    (
        "from: arrivals",
        "from: arival",
        "12: features.route_gain.from: no such dataset (got 'arival'). Fix: did you mean 'arrivals'?",
    ),
    (
        "label: arrivals.gain",
        "label: landings.gain",
        "16: jobs.train_delay.inputs.label: no such dataset (got 'landings'). Fix: known: arrivals, departures, weather",
    ),
    (
        "features: [route_gain]",
        "features: [route_gains]",
        "16: jobs.train_delay.inputs.features: no such feature (got 'route_gains'). Fix: did you mean 'route_gain'?",
    ),
    (
        "{from: train_delay, ev",
        "{from: train, ev",
        "25: models.delay.from: no such job (got 'train'). Fix: did you mean 'train_delay'?",
    ),
    (
        "model: delay@production",
        "model: delays@production",
        "27: endpoints.delay-api.model: no such model (got 'delays'). Fix: did you mean 'delay'?",
    ),
    (
        "  report:\n",
        "  train_delay:\n",
        "20: jobs.train_delay: the field is given twice. Fix: keep one of lines 14 and 20",
    ),
    (
        "label: arrivals.gain",
        "label: arrivals.gains",
        "16: jobs.train_delay.inputs.label: dataset 'arrivals' declares no such column (got 'gains'). "
        "Fix: did you mean 'gain' or 'origin'?",
    ),
    (
        "entity: [origin, dest]",
        "entity: [origin, destination]",
        "12: features.route_gain.entity: dataset 'arrivals' declares no such column (got 'destination'). Fix: did you mean 'dest'?",
    ),
    (
        "    key: [flight, origin]\n    known_at: arrived_at",
        "    key: [flight, origin]\n    known_at: arrived",
        "7: datasets.arrivals.known_at: dataset 'arrivals' declares no such column (got 'arrived'). Fix: did you mean 'arrived_at'?",
    ),
    (
        "  report:",
        "  weather:",
        "20: jobs.weather: the name is taken (got 'weather'). "
        "Fix: rename one: datasets already has this name, and versions and steps are called by it",
    ),
    (
        "windows: [6h, 24h]",
        "windows: [6h, 24 hours]",
        "12: features.route_gain.windows: not a duration (got '24 hours'). Fix: write a number and a unit, for example 6h, 7d or 90s",
    ),
    (
        "windows: [6h, 24h]",
        "columns: [late]",
        "12: features.route_gain: give either `windows` with `aggregates`, or `columns`. Fix: see docs/reference/project-file.md",
    ),
    (
        "valid: 10%",
        "valid: ten%",
        "17: jobs.train_delay.split.valid: could not convert string to float: 'ten' (got 'ten%'). Fix: see docs/reference/project-file.md",
    ),
    (
        "valid: 10%",
        "valid: 80%",
        "17: jobs.train_delay.split: valid and test must be fractions that leave something to train on. "
        "Fix: see docs/reference/project-file.md",
    ),
    (
        'accelerators: "0..1"',
        'accelerators: "1..0"',
        "19: jobs.train_delay.resources.accelerators: write a count, a range or a type with one of them"
        ", for example 1, 0..1 or v5e:8 (got '1..0'). "
        "Fix: see docs/reference/project-file.md",
    ),
    (
        "model: delay@production",
        "model: delay@staging",
        "27: endpoints.delay-api.model: nothing moves this alias (got 'delay@staging'). "
        "Fix: use delay@production, or change models.delay.promote.to",
    ),
    (
        "command: python report.py",
        "command: python report.py\n    function: report.py:main",
        "20: jobs.report: give either `function: file.py:name` or `command: ...`. Fix: see docs/reference/project-file.md",
    ),
    (
        "log://departures",
        "mqtt://departures",
        "3: datasets.departures.source: unknown scheme 'mqtt': use a path inside the project, s3://bucket/key, log://topic or "
        "kafka://host:port/topic (got 'mqtt://departures'). Fix: see docs/reference/project-file.md",
    ),
    (
        "log://departures",
        "kafka://me:pw@broker:9092/departures",
        "3: datasets.departures.source: 'me:pw@broker:9092/departures' is no topic: write kafka://host:port,host:port/topic; a password "
        "goes to `options:` (got 'kafka://me:pw@broker:9092/departures'). Fix: see docs/reference/project-file.md",
    ),
    (
        "from: arrivals, entity: [origin, dest]",
        "from: weather, entity: [origin, dest]",
        "12: features.route_gain.from: the dataset does not say when its rows are known (got 'weather'). "
        "Fix: add `known_at: COLUMN` to datasets.weather: a feature may use a value only from the time it was known",
    ),
    (
        "spine: departures",
        "spine: weather",
        "16: jobs.train_delay.inputs.spine: the spine needs `known_at` (got 'weather'). Fix: add it to datasets.weather",
    ),
    (
        "    key: [flight, origin]\n",
        "    key: [flight]\n",
        "16: jobs.train_delay.inputs.label: the label's dataset has another key than the spine (got 'arrivals'). "
        "Fix: give datasets.arrivals the key ['flight', 'origin']: label and spine are joined by it",
    ),
    (
        "{from: train_delay, ev",
        "{from: report, ev",
        "25: models.delay.from: the job has no inputs to evaluate a model on (got 'report'). Fix: add `inputs` to jobs.report",
    ),
    (
        "endpoints:",
        "  other: {from: train_delay, evaluate: a.py:e, predict: a.py:p}\nendpoints:",
        "26: models.other.from: model 'delay' comes from this job too (got 'train_delay'). Fix: give each model a job of its own",
    ),
    (
        "models:",
        "  again:\n    command: x\n    outputs: [report.html]\nmodels:",
        "26: jobs.again.outputs: job 'report' writes this too (got 'report.html'). Fix: let one job write it",
    ),
    (
        "jobs:\n",
        "jobs: 7\nhidden:\n",
        "13: jobs: Input should be a valid dictionary (got 7). Fix: see docs/reference/project-file.md",
    ),
]


@pytest.mark.parametrize(("old", "new", "line"), MISTAKES, ids=[f"{new.strip()[:30]}" for _, new, _ in MISTAKES])
def test_every_mistake_is_one_line_that_says_where_what_and_how_to_mend_it(old: str, new: str, line: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(SpecError) as caught:
        validate(parse(TEXT.replace(old, new), "bedplate.yaml"))
    assert caught.value.one_line() == "bedplate.yaml:" + line


@pytest.mark.parametrize(("noun", "name"), [("jobs", "inputs"), ("jobs", "split"), ("datasets", "columns"), ("datasets", "source")])
def test_a_name_that_is_also_a_fields_name_does_not_confuse_the_fix(noun: str, name: str) -> None:
    with pytest.raises(SpecError, match="unknown field") as caught:
        validate(parse(f"project: a\n{noun}:\n  {name}: {{source: a, command: b, resorces: {{}}, colums: {{}}}}\n", "f"))
    assert "did you mean" in (caught.value.fix or "")


@pytest.mark.parametrize(
    "text", ["true: 1", "1: {}", "project: 7", "project:", "datasets: {no: {source: a}}", "datasets: [a]", "jobs: {a: 1}"]
)
def test_odd_values_are_errors_like_any_other(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        validate(parse(text if "project" in text else f"project: a\n{text}", "f"))
    assert caught.value.fix
    assert caught.value.line in (1, 2)


def here(tmp_path: Path, text: str = TEXT, **overrides: str) -> Project:
    (tmp_path / "bedplate.yaml").write_text(text)
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    return load_project(tmp_path, Settings(home=tmp_path / "home", state=None), named)


def test_a_project_is_found_from_a_folder_inside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = here(tmp_path)
    (tmp_path / "src" / "deep").mkdir(parents=True)
    settings = Settings(home=tmp_path / "home", state=None)
    assert load_project(tmp_path / "src" / "deep", settings) == project
    monkeypatch.chdir(tmp_path / "src")
    assert load_project(Path(), settings) == project
    assert (project.name, project.root, project.state) == ("flights", tmp_path, tmp_path / ".bedplate")


def test_the_state_can_be_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text("project: a\n")
    assert load_project(tmp_path, Settings(home=tmp_path, state=tmp_path / "state")).state == tmp_path / "state"


def test_where_there_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no project file here") as caught:
        load_project(tmp_path, Settings(home=tmp_path, state=None))
    assert caught.value.value == str(tmp_path / "bedplate.yaml")


def test_parameters_are_set_for_one_run(tmp_path: Path) -> None:
    project = here(tmp_path, lr="3e-4", train_delay__epochs="5", title="null")
    assert project.spec.jobs["train_delay"].params == {"lr": 0.0003, "epochs": 5}
    assert project.spec.jobs["report"].params == {"epochs": 1, "title": None}
    assert here(tmp_path).spec.jobs["train_delay"].params == {"lr": 0.001, "epochs": 2}


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("lrr", "1", "--set names no parameter of one job (got 'lrr'). Fix: known: "),
        ("train_delay.lrr", "1", "--set names no parameter of one job (got 'train_delay.lrr'). Fix: did you mean 'train_delay.lr'"),
        ("trian.lr", "1", "--set names no parameter of one job (got 'trian.lr'). Fix: did you mean 'train_delay.lr'"),
        ("epochs", "1", "--set names no parameter of one job (got 'epochs'). Fix: did you mean 'report.epochs' or 'train_delay.epochs'"),
        ("lr", "[1", "--set lr: not a YAML value (got '[1'). Fix: put quotes"),
        ("lr", "{a: 1}", "bedplate.yaml:18: jobs.train_delay.params.lr: Input should be a valid string. Fix: see"),
    ],
)
def test_a_parameter_that_cannot_be_set(tmp_path: Path, key: str, value: str, line: str) -> None:
    with pytest.raises(SpecError) as caught:
        here(tmp_path, **{key: value})
    assert caught.value.one_line().startswith(line)


@pytest.mark.parametrize("text", ["project: a\njobs: {j: {command: x, params: }}\n", "project: a\njobs: {j: 1}\n", "project: a\njobs: 1\n"])
def test_setting_a_parameter_where_there_are_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError, match="no parameter") as caught:
        here(tmp_path, text, lr="1")
    assert caught.value.fix == "none is declared"


SAMPLES = """
project: samples
jobs:
  words: {{function: t.py:words, outputs: [tokenizer.json]}}
  two: {{function: t.py:words, outputs: [a.json, b.json]}}
  fit: {{function: t.py:fit, inputs: {inputs}}}
datasets:
  corpus: {{source: "text/**/*.py"}}
  photos: {{source: photos.csv, columns: {{path: string, kind: string}}}}
models:
  lm: {{from: fit, evaluate: t.py:e, predict: t.py:p}}
"""
DOCUMENTS = "{text: corpus.text, tokenizer: tokenizer.json, sequence: 8}"


def test_inputs_of_each_kind(tmp_path: Path) -> None:
    text = here(tmp_path, SAMPLES.format(inputs=DOCUMENTS)).spec.jobs["fit"].inputs
    assert isinstance(text, TextInputs)
    assert (text.dataset, text.sequence, text.end, text.store) == ("corpus", 8, None, None)
    declared = "{images: photos.path, label: photos.kind, size: [32, 24]}"
    images = here(tmp_path, SAMPLES.format(inputs=declared)).spec.jobs["fit"].inputs
    assert isinstance(images, ImageInputs)
    assert (images.dataset, images.size) == ("photos", (32, 24))


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        (
            "{text: corpora.text, tokenizer: t.json, sequence: 8}",
            "inputs.text: no such dataset (got 'corpora'). Fix: did you mean",
        ),
        ("{text: corpus.text, tokenizer: two, sequence: 8}", "inputs.tokenizer: the job does not write one file (got 'two')"),
        ("{text: corpus.text, sequence: 8}", "inputs.tokenizer: a required field is missing. Fix: add `tokenizer:`"),
        ("{text: corpus.text, tokenizer: t, sequence: 0}", "inputs.sequence: Input should be greater than or equal to 1 (got 0)"),
        ("{text: corpus.text, tokenizer: t, sequense: 9}", "inputs.sequence: a required field is missing"),
        (
            "{text: corpus.text, tokenizer: t, sequence: 8, windw: 2}",
            "inputs.windw: unknown field (got 'windw'). Fix: did you mean",
        ),
        ("{text: corpus, tokenizer: t, sequence: 8}", "inputs.text: the value has the wrong form (got 'corpus')"),
        (
            "{images: photos.pth, size: [8, 8]}",
            "inputs.images: dataset 'photos' declares no such column (got 'pth').",
        ),
        ("{images: photos.path, label: corpus.text, size: [8, 8]}", "inputs: `label` and `images` must be columns of one dataset"),
        ("{images: photos.path, size: [8]}", "inputs.size: a list is too short. Fix: give it 2 values"),
        ("{sequence: 8}", "inputs.spine: a required field is missing"),
    ],
)
def test_inputs_that_are_wrong(tmp_path: Path, inputs: str, line: str) -> None:
    with pytest.raises(SpecError) as caught:
        here(tmp_path, SAMPLES.format(inputs=inputs))
    assert line in caught.value.one_line()


def test_an_endpoint_needs_a_model_of_rows(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="an endpoint looks up rows, and this model takes none"):
        here(tmp_path, SAMPLES.format(inputs=DOCUMENTS) + "endpoints:\n  ask: {model: lm@production}\n")


ON_DEMAND = TEXT.replace(
    "jobs:\n", "  late: {function: f.py:late, inputs: [distance, route_gain__gain__mean__6h], columns: {share: float}}\njobs:\n"
).replace("features: [route_gain]", "features: [late, route_gain]")


def test_a_feature_may_be_a_function_of_fields_and_features() -> None:
    spec = validate(parse(ON_DEMAND, "bedplate.yaml"))
    assert list(spec.on_demand(["late", "route_gain"])) == ["late"]
    assert list(spec.stored(["late", "route_gain"])) == ["route_gain"]
    assert spec.features["late"].columns == {"share": "float"}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("features: [late, route_gain]", "features: [late]", "feature 'late' needs another (got 'route_gain__gain__mean__6h')"),
        ("columns: {share: float}", "columns: {share: number}", "features.late.columns.share: "),
        ("columns: {share: float}", "columns: {}", "features.late.columns: "),
        ("inputs: [distance, ", "entity: x, inputs: [distance, ", "features.late.entity: unknown field (got 'entity')"),
        ("function: f.py:late", "function: f.py", "features.late.function: "),
    ],
)
def test_what_is_wrong_with_a_function_is_one_line(before: str, after: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        validate(parse(ON_DEMAND.replace(before, after), "bedplate.yaml"))
    assert message in caught.value.one_line()
