"""What an attempt is told on a host that does not have this machine's paths, and what of here goes with it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.cluster.remote_paths import Mapped, with_python
from bedplate.core.attempt import Attempt

HERE = "/home/ann/shop"
NAMES = st.lists(st.sampled_from(["a", "b.txt", "runs", "c d", "é"]), min_size=1, max_size=4).map("/".join)


def mapped(root: str = HERE, state: str = f"{HERE}/.bedplate", **changes: object) -> Mapped:
    folder = f"{state}/runs/fit-1/2"
    attempt = Attempt(
        run="fit-1",
        token=2,
        step="fit",
        kind="train",
        folder=folder,
        root=root,
        state=state,
        code=f"{state}/code/abc",
        spec={},
        inputs={},
        argv=(sys.executable, "-m", "bedplate.flow.worker", folder),
        shim_argv=(sys.executable, "-m", "bedplate.flow.shim", folder),
    )
    return Mapped(replace(attempt, **changes), "/scratch/pool", "/opt/python")


def test_an_attempt_is_told_paths_of_the_host() -> None:
    given_paths = {"rows": {"path": f"{HERE}/data/rows.csv"}, "view": {"path": f"{HERE}/.bedplate/views/1"}}
    there = mapped(inputs=given_paths)
    told = there.translated()
    assert told.state.startswith("/scratch/pool/projects/shop-")
    assert told.folder == f"{told.state}/runs/fit-1/2"
    assert told.code == f"{told.state}/code/abc"
    assert told.root == f"{told.folder}/root"
    assert told.inputs["rows"]["path"] == f"{told.root}/data/rows.csv"
    assert told.inputs["view"]["path"] == f"{told.state}/views/1"
    assert told.argv == ("/opt/python", "-m", "bedplate.flow.worker", told.folder)
    assert told.shim_argv == ("/opt/python", "-m", "bedplate.flow.shim", told.folder)
    assert HERE not in str(told.to_json())


def test_a_command_is_left_as_it_is() -> None:
    told = mapped(argv=("/bin/sh", "-c", f"python fit.py {HERE}/data")).translated()
    assert told.argv == ("/bin/sh", "-c", f"python fit.py {HERE}/data")


def test_without_a_snapshot_the_code_is_the_attempts_own_root() -> None:
    told = mapped(code=HERE).translated()
    assert told.code == told.root
    assert mapped(code=HERE).state_files() == []


def test_two_projects_of_one_name_have_folders_of_their_own() -> None:
    assert mapped("/home/ann/shop").state != mapped("/home/bob/shop", "/home/bob/shop/.bedplate").state


def test_what_travels_is_what_there_is_of_code_inputs_and_checkpoints(tmp_path: Path) -> None:
    state = tmp_path / "shop" / ".bedplate"
    for name in ("code/abc", "views/1", "runs/fit-1/1/checkpoints/7", "runs/fit-1/1/checkpoints/5"):
        (state / name).mkdir(parents=True)
    inputs = {
        "view": {"path": str(state / "views/1")},
        "gone": {"path": str(state / "views/9")},
        "rows": {"path": str(tmp_path / "shop/data/rows.csv")},
    }
    place = "runs/fit-1/1/checkpoints"
    checkpoint = {"step": 7, "location": f"{place}/7", "previous": [{"location": f"{place}/5"}, {"location": f"{place}/3"}]}
    there = mapped(str(tmp_path / "shop"), str(state), code=str(state / "code/abc"), inputs=inputs, checkpoint=checkpoint)
    assert there.state_files() == ["code/abc", "views/1", f"{place}/7", f"{place}/5"]
    assert there.root_files() == ["data/rows.csv"]


@pytest.mark.parametrize("state", [f"{HERE}/.bedplate", "/var/states/shop"])
@given(name=NAMES)
def test_paths_that_differ_here_differ_there_and_others_stay(state: str, name: str) -> None:
    there = mapped(state=state)
    places = [there.there(f"{state}/{name}"), there.there(f"{HERE}/{name}"), there.there(f"/usr/{name}")]
    assert len(set(places)) == 3
    assert places[0] == f"{there.state}/{name}"
    assert places[1] == f"{there.root}/{name}"
    assert places[2] == f"/usr/{name}"


def test_where_paths_are_the_same_only_the_interpreter_is_another() -> None:
    attempt = mapped().attempt
    assert with_python(attempt, "") is attempt
    told = with_python(attempt, "/opt/python")
    assert (told.argv[0], told.shim_argv[0]) == ("/opt/python", "/opt/python")
    assert told.argv[1:] == attempt.argv[1:]
    assert told.folder == attempt.folder
