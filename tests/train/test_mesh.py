import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.errors import JobError
from bedplate.core.spec import MeshAxes
from bedplate.train.mesh import STAGES_PER_RANK, Coordinates, Mesh

SIZES = st.integers(1, 4)
MESHES = st.builds(Mesh, SIZES, SIZES, SIZES, SIZES, SIZES, st.sampled_from(sorted(STAGES_PER_RANK)))


def test_no_mesh_is_copies_of_the_whole_model() -> None:
    assert Mesh.of(None, 3) == Mesh(data=3)
    assert Mesh.of(None, 3).pure_data
    assert Mesh.of(None, 1).sizes == {}


def test_data_takes_what_the_other_axes_leave() -> None:
    mesh = Mesh.of({"tensor": 2, "pipeline": 2}, 8)
    assert (mesh.data, mesh.batch_ranks, mesh.world_size) == (2, 2, 8)
    assert mesh.sizes == {"pipeline": 2, "data": 2, "tensor": 2}
    assert not mesh.pure_data


def test_pipeline_is_outermost_and_tensor_innermost() -> None:
    mesh = Mesh(data=2, tensor=2, pipeline=2)
    assert mesh.coordinates(1) == Coordinates(data=0, shard=0, pipeline=0, context=0, tensor=1)
    assert mesh.coordinates(2) == Coordinates(data=1, shard=0, pipeline=0, context=0, tensor=0)
    assert mesh.coordinates(4) == Coordinates(data=0, shard=0, pipeline=1, context=0, tensor=0)
    assert [mesh.batch_rank(rank) for rank in range(8)] == [0, 0, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("spec", "world_size", "said"),
    [
        ({"tensor": 3}, 8, "multiply to 8"),
        ({"data": 2}, 4, "workers: 2"),
        ({"tenser": 2}, 2, "did you mean 'tensor'"),
        ({"schedule": "1f1b"}, 2, "1F1B"),
        ({"tensor": 0}, 2, "whole number"),
        ({"tensor": True}, 2, "whole number"),
        ({"pipeline": 2, "micro_batches": 1}, 2, "use 2"),
        ({"pipeline": 2, "micro_batches": 3, "schedule": "DualPipeV"}, 2, "use 4"),
        ({"pipeline": 2, "micro_batches": 3, "schedule": "Interleaved1F1B"}, 2, "multiple of 2"),
        ({"micro_batches": 0}, 1, "micro_batches"),
    ],
)
def test_what_is_no_mesh_is_an_error_with_its_fix(spec: dict[str, object], world_size: int, said: str) -> None:
    with pytest.raises(JobError, match=said):
        Mesh.of(spec, world_size)


def test_a_rank_that_is_not_there() -> None:
    with pytest.raises(JobError, match="no such rank"):
        Mesh(data=2).coordinates(2)


@given(MESHES)
def test_every_rank_sits_somewhere_else(mesh: Mesh) -> None:
    places = {mesh.coordinates(rank) for rank in range(mesh.world_size)}
    assert len(places) == mesh.world_size


@given(MESHES)
def test_each_part_of_a_batch_is_worked_on_equally_often(mesh: Mesh) -> None:
    parts = [mesh.batch_rank(rank) for rank in range(mesh.world_size)]
    assert {part: parts.count(part) for part in set(parts)} == dict.fromkeys(range(mesh.batch_ranks), mesh.world_size // mesh.batch_ranks)


@given(MESHES)
def test_every_stage_is_on_one_rank_of_the_pipeline(mesh: Mesh) -> None:
    stages = [stage for rank in range(mesh.pipeline) for stage in mesh.stages_of(rank)]
    assert sorted(stages) == list(range(mesh.stages))
    assert mesh.stages - 1 in mesh.stages_of(mesh.loss_rank)


@given(MESHES)
def test_a_mesh_survives_its_json(mesh: Mesh) -> None:
    assert Mesh.of(mesh.to_json(), mesh.world_size) == mesh


def test_micro_batches_of_a_pipeline_are_twice_its_ranks_unless_given() -> None:
    assert Mesh(pipeline=4).pipeline_micro_batches == 8
    assert Mesh(pipeline=4, micro_batches=4).pipeline_micro_batches == 4
    assert Mesh(data=4).pipeline_micro_batches == 1


def test_the_project_file_knows_the_same_axes_and_schedules() -> None:
    assert set(MeshAxes.model_fields) == set(Mesh().to_json())
    for schedule in STAGES_PER_RANK:
        assert Mesh.of(MeshAxes(schedule=schedule).model_dump(exclude_none=True), 2).schedule == schedule  # type: ignore[arg-type]
