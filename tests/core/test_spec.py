"""The declared models: what is accepted, what it defaults to, and what is refused before anything runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bedplate.core.spec import (
    SPLIT_BACKWARD,
    Dataset,
    Endpoint,
    Feature,
    Inputs,
    Job,
    MeshAxes,
    Model,
    ProjectSpec,
    Promote,
    Resources,
    Split,
    Trigger,
)


def test_a_dataset_from_a_stream_knows_its_topic() -> None:
    assert Dataset(source="log://departures").topic == "departures"
    assert Dataset(source="data/weather.csv.gz").topic is None
    assert Dataset(source="a").backfill == "untrusted"


@pytest.mark.parametrize("source", ["", "kafka://a", "s3://bucket/x", "log://", "log://Upper", "log://a b", "log://../x", "log:///x"])
def test_a_source_that_cannot_be_read(source: str) -> None:
    with pytest.raises(ValidationError):
        Dataset(source=source)


def test_what_is_declared_never_changes() -> None:
    with pytest.raises(ValidationError):
        Dataset(source="a").source = "b"


@pytest.mark.parametrize("name", ["a", "a-b_c", "a1", "a" * 63])
def test_a_name(name: str) -> None:
    assert ProjectSpec(project=name).project == name


@pytest.mark.parametrize("name", ["", "A", "1a", "-a", "a.b", "a/b", "../a", "a b", "a\n", "a@1", "a" * 64, "é"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValidationError):
        ProjectSpec(project=name)


WINDOWS = {"windows": ["6h"], "aggregates": {"gain": ["mean"]}}


def test_a_feature_is_windows_with_aggregates_or_columns() -> None:
    feature = Feature.model_validate({"from": "arrivals", "entity": "origin", **WINDOWS})
    assert (feature.from_, feature.entity, feature.windows) == ("arrivals", ("origin",), ("6h",))
    assert Feature.model_validate({"from": "a", "entity": ["x", "y"], "columns": ["z"]}).entity == ("x", "y")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"windows": ["6h"]},
        {"aggregates": {"gain": ["mean"]}},
        {**WINDOWS, "columns": ["z"]},
        {**WINDOWS, "windows": ["6 parsecs"]},
        {**WINDOWS, "aggregates": {"gain": ["median"]}},
        {**WINDOWS, "entity": []},
        {**WINDOWS, "from": None},
    ],
)
def test_what_is_no_feature(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Feature.model_validate({"from": "a", "entity": "x", **values})


@pytest.mark.parametrize(("given_", "fraction"), [("20%", 0.2), (" 12.5% ", 0.125), (0.2, 0.2), ("0.2", 0.2), (0, 0.0)])
def test_a_part_of_the_rows(given_: object, fraction: float) -> None:
    assert Split.model_validate({"test": given_, "valid": 0}).test == pytest.approx(fraction)


@pytest.mark.parametrize("values", [{"test": "100%"}, {"valid": 0.5, "test": 0.5}, {"test": -0.1}, {"test": "x%"}, {"test": float("nan")}])
def test_parts_that_leave_nothing_to_train_on(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Split.model_validate(values)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_split_is_accepted_exactly_when_rows_remain(valid: float, test: float) -> None:
    try:
        Split(valid=valid, test=test)
    except ValidationError:
        assert valid + test >= 1
    else:
        assert valid + test < 1


@pytest.mark.parametrize(("value", "low", "high"), [("0..1", 0, 1), ("2", 2, 2), (1, 1, 1), ("0", 0, 0), ("4..8", 4, 8)])
def test_a_range_of_accelerators(value: object, low: int, high: int) -> None:
    assert Resources.model_validate({"accelerators": value}).accelerator_range() == (low, high)


@pytest.mark.parametrize(
    "values",
    [
        {"accelerators": "2..1"},
        {"accelerators": "-1"},
        {"accelerators": -1},
        {"accelerators": True},
        {"accelerators": "1.."},
        {"accelerators": 1.5},
        {"workers": 0},
        {"workers": 5000},
        {"cpus": 0},
        {"cpus": float("inf")},
        {"memory_gb": -1},
        {"gpus": 1},
    ],
)
def test_resources_that_no_machine_has(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Resources.model_validate(values)


def test_a_job_is_a_function_or_a_command() -> None:
    assert Job(function="train.py:train").max_restarts == 3
    assert Job(command="python train.py").function is None
    for values in ({}, {"function": "train.py:train", "command": "x"}, {"function": "", "command": ""}):
        with pytest.raises(ValidationError):
            Job.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"function": "train"},
        {"function": "train.py:"},
        {"function": "train.py:1a"},
        {"function": "train.py:a; rm"},
        {"checkpoint": "soon"},
        {"checkpoint": {"every": "0s"}},
        {"checkpoint": {"tiers": ["floppy"]}},
        {"checkpoint": {"tiers": []}},
        {"checkpoint": {"tiers": ["disk", "disk"]}},
        {"checkpoint": {"tiers": ["s3://"]}},
        {"checkpoint": {"keep": {"last": 0}}},
        {"checkpoint": {"keep": {"best": "a loss"}}},
        {"max_time": "0h"},
        {"max_restarts": -1},
        {"max_restarts": 101},
        {"params": {"lr": float("nan")}},
        {"params": {"layers": [1, 2]}},
    ],
)
def test_what_is_no_job(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Job.model_validate({"function": "a.py:f", **values})


def test_checkpoints_are_an_interval_or_more() -> None:
    assert Job(command="x").checkpoint.every == "30s"
    for values in ("auto", {"every": "auto"}):
        found = Job.model_validate({"command": "x", "checkpoint": values}).checkpoint
        assert (found.every, found.tiers, found.keep.last) == ("auto", ("disk",), 2)
    more = {"every": "10s", "tiers": ["memory", "disk", "s3://bucket/prefix"], "keep": {"last": 3, "every": 10, "best": "-accuracy"}}
    assert Job.model_validate({"command": "x", "checkpoint": more}).model_dump(mode="json")["checkpoint"] == more


def test_parameters_keep_their_type() -> None:
    params = {"a": 1, "b": 1.0, "c": True, "d": "1", "e": None}
    kept = Job(command="x", params=params).params
    assert {name: type(value) for name, value in kept.items()} == {name: type(value) for name, value in params.items()}


def test_a_label_names_its_dataset() -> None:
    assert Inputs(spine="departures", label="arrivals.arr_delay").features == ()
    with pytest.raises(ValidationError):
        Inputs(spine="departures", label="arr_delay")


def test_a_model_and_its_endpoint() -> None:
    model = Model.model_validate({"from": "train", "evaluate": "t.py:evaluate", "predict": "t.py:predict"})
    assert (model.promote.to, model.promote.when) == ("production", ())
    assert Endpoint(model="delay@production").port == 0
    for values in ({"model": "delay"}, {"model": "delay@7"}, {"model": "delay@production", "port": 70000}):
        with pytest.raises(ValidationError):
            Endpoint.model_validate(values)


def test_a_recorded_spec_reads_back_as_itself() -> None:
    spec = ProjectSpec.model_validate(
        {
            "project": "flights",
            "datasets": {"a": {"source": "log://a", "key": ["k"], "known_at": "t", "columns": {"k": "int", "t": "timestamp"}}},
            "features": {"f": {"from": "a", "entity": "k", **WINDOWS}},
            "jobs": {"j": {"function": "t.py:f", "inputs": {"spine": "a", "label": "a.k"}, "split": {"test": "20%"}}},
            "models": {"m": {"from": "j", "evaluate": "t.py:e", "predict": "t.py:p"}},
            "endpoints": {"e": {"model": "m@production"}},
        }
    )
    assert ProjectSpec.model_validate(spec.model_dump(mode="json", by_alias=True)) == spec


def test_the_spec_brings_no_engine_library() -> None:
    script = "import sys, bedplate.core.spec; print([n for n in ('numpy', 'pyarrow', 'duckdb', 'torch', 'httpx') if n in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60) == "[]\n"


@pytest.mark.parametrize(
    ("mesh", "workers"),
    [({"tensor": 2}, 4), ({"data": 2, "shard": 2}, 4), ({"pipeline": 2, "schedule": "DualPipeV"}, "2..8"), ("auto", 3), (None, 3)],
)
def test_a_mesh_fits_its_workers(mesh: object, workers: object) -> None:
    job = Job.model_validate({"function": "t.py:fit", "mesh": mesh, "resources": {"workers": workers}})
    assert (job.mesh if isinstance(job.mesh, str | None) else job.mesh.model_dump(exclude_unset=True)) == mesh


@pytest.mark.parametrize(
    ("mesh", "workers", "said"),
    [
        ({"tensor": 3}, 4, "multiply to 3, and `resources` has 4"),
        ({"data": 2, "tensor": 2}, 8, "multiply to 4"),
        ({"pipeline": 2}, "2..5", "multiply to 2"),
        ({"tensor": 0}, 1, "greater than or equal to 1"),
        ({"schedule": "fast"}, 1, "1F1B"),
        ("best", 1, "auto"),
    ],
)
def test_a_mesh_that_cannot_be(mesh: object, workers: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Job.model_validate({"function": "t.py:fit", "mesh": mesh, "resources": {"workers": workers}})


def test_accelerators_are_a_count_a_range_or_a_type_with_one() -> None:
    found = {text: Resources(accelerators=text) for text in ("2", "0..1", "v5e:8", "H100:1..4")}
    assert {text: (each.accelerator_type, each.accelerator_range()) for text, each in found.items()} == {
        "2": ("", (2, 2)),
        "0..1": ("", (0, 1)),
        "v5e:8": ("v5e", (8, 8)),
        "H100:1..4": ("H100", (1, 4)),
    }
    for wrong in ("v5e", "v5e:", "8:v5e", "4..2"):
        with pytest.raises(ValidationError, match="v5e:8"):
            Resources(accelerators=wrong)


@pytest.mark.parametrize(
    ("store", "allowed"),
    [
        ("sqlite://", True),
        ("redis://cache:6379/0", True),
        ("redis://:${REDIS_PASSWORD}@cache:6379/0", True),
        ("postgres://app:${PG_PASSWORD}@db/features", True),
        ("redis://:hunter2@cache:6379/0", False),
        ("postgres://app:${PG}x@db/features", False),
        ("mysql://db", False),
        ("redis", False),
    ],
)
def test_a_store_s_password_is_named_and_never_written(store: str, allowed: bool) -> None:
    if allowed:
        assert Endpoint(model="delay@production", store=store).store == store
    else:
        with pytest.raises(ValueError, match=r"write sqlite://|a password is not written down"):
            Endpoint(model="delay@production", store=store)


@pytest.mark.parametrize(
    "changes",
    [{"half_lives": ["6h"]}, {"aggregates": {"gain": ["decayed_sum"]}}, {"windows": [], "half_lives": ["1h"]}, {"ttl": "soon"}],
)
def test_what_decays_has_half_lives_and_what_does_not_has_windows(changes: dict[str, object]) -> None:
    values = {"from": "events", "entity": "origin", "windows": ["1h"], "aggregates": {"gain": ["min"]}}
    with pytest.raises(ValueError, match=r"half_lives|windows|duration"):
        Feature.model_validate(values | changes)
    both = {"half_lives": ["1h"], "aggregates": {"gain": ["min", "decayed_mean"]}, "ttl": "2d"}
    assert Feature.model_validate(values | both).ttl == "2d"


@pytest.mark.parametrize(
    "values",
    [
        {"changed": "data"},
        {"changed": ["data", "code"], "targets": ["delay"], "pause": "1h"},
        {"every": "1d"},
        {"at": "03:30"},
        {"at": "mon 23:59", "mode": "run"},
        {"drift": {"flights.dep_delay": 0.2}, "measure": "ks"},
    ],
)
def test_a_trigger_has_at_least_one_condition(values: dict[str, object]) -> None:
    assert Trigger.model_validate(values).pause == values.get("pause", "1m")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "give at least one of"),
        ({"targets": ["delay"]}, "give at least one of"),
        ({"changed": ["wheather"]}, "Input should be 'data' or 'code'"),
        ({"every": "daily"}, "not a duration"),
        ({"every": "1d", "pause": "0s"}, "not a duration"),
        ({"at": "25:00"}, "write a time of day in UTC"),
        ({"at": "3:30"}, "write a time of day in UTC"),
        ({"at": "monday 03:30"}, "write a time of day in UTC"),
        ({"drift": {"dep_delay": 0.2}}, "write dataset.column: limit"),
        ({"drift": {"flights.dep_delay": 0}}, "write dataset.column: limit"),
        ({"on": ["data"]}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_no_trigger(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Trigger.model_validate(values)


@pytest.mark.parametrize(("approvals", "kept"), [(0, 0), (2, 2), (["ann", "bob"], ("ann", "bob"))])
def test_approvals_are_a_number_or_people(approvals: object, kept: object) -> None:
    assert Promote.model_validate({"approvals": approvals}).approvals == kept


@pytest.mark.parametrize("approvals", [-1, 101, "ann", 1.5])
def test_what_is_no_number_of_people(approvals: object) -> None:
    with pytest.raises(ValidationError):
        Promote.model_validate({"approvals": approvals})


def test_an_endpoint_refuses_what_is_not_signed_unless_it_is_declared() -> None:
    assert Endpoint(model="delay@production").unsigned == "refused"
    assert Endpoint(model="delay@production", unsigned="allowed").unsigned == "allowed"
    with pytest.raises(ValidationError):
        Endpoint.model_validate({"model": "delay@production", "unsigned": True})


def test_a_model_is_trained_here_or_comes_from_elsewhere_told_by_its_from() -> None:
    models = {
        "delay": {"from": "fit", "evaluate": "fit.py:evaluate", "predict": "fit.py:predict"},
        "base": {"from": "hf://org/name@main", "license": "mit", "files": ["*.safetensors"]},
    }
    spec = ProjectSpec.model_validate({"project": "p", "models": models})
    assert (set(spec.trained), set(spec.imported)) == ({"delay"}, {"base"})
    assert spec.imported["base"].license == "mit"
    again = ProjectSpec.model_validate(spec.model_dump(mode="json", by_alias=True))
    assert again == spec, "as a launch records it"


@pytest.mark.parametrize("address", ["ftp://host/x", "dir://", "hf://a b", "://x"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        ProjectSpec.model_validate({"project": "p", "models": {"base": {"from": address}}})


def test_axes_of_a_mesh_may_be_left_to_the_planner() -> None:
    axes = MeshAxes.model_validate({"data": "auto", "tensor": 2})
    assert (axes.planned, axes.settled, axes.ranks) == (("data",), {"shard": 1, "tensor": 2, "pipeline": 1, "context": 1}, 2)
    Job.model_validate({"function": "a.py:f", "mesh": axes, "resources": {"workers": "2..8"}})
    with pytest.raises(ValidationError, match="only `data` may be `auto`"):
        Job.model_validate({"function": "a.py:f", "mesh": {"tensor": "auto"}, "resources": {"workers": "2..8"}})
    with pytest.raises(ValidationError, match="multiply to 3"):
        Job.model_validate({"function": "a.py:f", "mesh": {"data": "auto", "tensor": 3}, "resources": {"workers": 8}})


@pytest.mark.parametrize("schedule", SPLIT_BACKWARD)
def test_a_schedule_that_cannot_recompute_is_refused_before_the_run(schedule: str) -> None:
    mesh = {"pipeline": 2, "schedule": schedule}
    given = {"function": "a.py:f", "mesh": mesh, "resources": {"workers": 2}}
    assert Job.model_validate(given).mesh is not None
    with pytest.raises(ValidationError, match="cannot recompute activations"):
        Job.model_validate({**given, "activation_checkpointing": True})
