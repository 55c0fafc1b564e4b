"""Resources and meshes: ranges, and what no machine or code can do."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bedplate.core.spec import SPLIT_BACKWARD, Job, MeshAxes, Resources


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
