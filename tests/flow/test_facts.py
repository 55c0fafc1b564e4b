"""Facts: sources, what was made and is still there, what serves; and that looking changes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bedplate.core.clock import SystemClock
from bedplate.core.digest import digest_file
from bedplate.core.errors import DataError, NotFound
from bedplate.core.event import Draft
from bedplate.data.streams.log import Log
from bedplate.flow import facts as module
from bedplate.flow.facts import gather, is_present, location_of, remembered_digest, run_is_alive, serving, source_position
from bedplate.flow.planner import steps_for
from flow.world import World


def test_facts_of_a_project_that_was_brought_up(world: World) -> None:
    world.drive("up")
    steps = steps_for(world.workspace.project.spec, [])
    facts = gather(world.workspace, steps)
    assert {step: [made.run.id for made in known] for step, known in facts.made.items() if step != "prices"} == {
        step.name: [f"{step.name}-1"] for step in steps if step.name != "prices"
    }
    assert all(made.present for known in facts.made.values() for made in known)
    assert (facts.serving["prices"].id, facts.aliased["price"].ref, dict(facts.active)) == ("prices-1", "price@1", {})
    assert set(facts.code) == {"fit", "price", "prices"}
    assert facts.pools[0].machines[0].cores >= 1


def test_newest_runs_come_first(world: World) -> None:
    world.drive("run", "other")
    world.drive("run", "other", force=("other",))
    facts = gather(world.workspace, steps_for(world.workspace.project.spec, ["other"]))
    assert [made.run.id for made in facts.made["other"]] == ["other-2", "other-1"]


def test_a_run_under_way_is_active(world: World) -> None:
    world.scripts["other"] = lambda _: [(1e6, "ended", {})]
    world.ask("run", "other")
    with world.loop() as loop:
        world.tick(loop, lambda: bool(world.events("attempt.started")))
    facts = gather(world.workspace, steps_for(world.workspace.project.spec, ["other"]))
    assert dict(facts.active) == {("other", world.run("other").fingerprint): "other-1"}


def test_what_was_made_is_present_while_its_bytes_are(world: World) -> None:
    world.drive("run", "rows")
    table, file = world.workspace.records.version("rows"), world.workspace.records.version("data/rows.csv")
    assert is_present(world.workspace, table) and is_present(world.workspace, file)
    assert location_of(world.workspace, file) == world.folder / "data" / "rows.csv"
    location_of(world.workspace, table).unlink()
    (world.folder / "data" / "rows.csv").write_text("something else")
    assert not is_present(world.workspace, table)
    assert not is_present(world.workspace, file), "a declared file must still have the content of the version"
    (world.folder / "data" / "rows.csv").unlink()
    assert not is_present(world.workspace, file)


def test_a_stream_stands_for_its_identity_and_its_ends(world: World) -> None:
    with pytest.raises(NotFound, match="the stream has no records yet"):
        source_position(world.workspace, "log://visits")
    assert not (world.workspace.state / "log").exists(), "asking made nothing"
    log = Log(world.workspace.state / "log" / "visits", SystemClock())
    log.append([b"1"], producer="p", sequence=0)
    first = source_position(world.workspace, "log://visits")
    assert source_position(world.workspace, "log://visits") == first
    log.append([b"2"], producer="p", sequence=1)
    assert source_position(world.workspace, "log://visits") != first


def test_a_file_stands_for_its_content(world: World) -> None:
    with pytest.raises(DataError, match=r"the source file is missing \(got 'data.csv'\)"):
        source_position(world.workspace, "data.csv")
    (world.folder / "data.csv").write_text("a\n1\n")
    first = source_position(world.workspace, "data.csv")
    assert first == digest_file(world.folder / "data.csv")
    (world.folder / "data.csv").write_text("a\n2\n")
    assert source_position(world.workspace, "data.csv") != first


def test_a_pattern_stands_for_the_names_and_contents_of_its_files(world: World) -> None:
    root = world.workspace.project.root
    with pytest.raises(DataError, match=r"no file matches the source \(got 'text/\*\.txt'\)"):
        source_position(world.workspace, "text/*.txt")
    (root / "text").mkdir()
    (root / "text" / "a.txt").write_text("one")
    seen = [source_position(world.workspace, "text/*.txt")]
    (root / "text" / "other.md").write_text("not this one")
    assert source_position(world.workspace, "text/*.txt") == seen[0]
    (root / "text" / "a.txt").rename(root / "text" / "b.txt")
    seen.append(source_position(world.workspace, "text/*.txt"))
    (root / "text" / "b.txt").write_text("two")
    seen.append(source_position(world.workspace, "text/*.txt"))
    assert len(set(seen)) == 3


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, memory = tmp_path / "rows.csv", tmp_path / "digests.json"
    file.write_text("1")
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return digest_file(path)

    monkeypatch.setattr(module, "digest_file", counted)
    first = remembered_digest(file, memory)
    assert remembered_digest(file, memory) == first and read == [file]
    os.utime(file, ns=(1, 1))
    assert remembered_digest(file, memory) == first and len(read) == 2, "another time: it is read again"
    assert list(json.loads(memory.read_text())) == [str(file)]


def test_an_endpoint_serves_while_its_shim_lives_here(world: World) -> None:
    world.drive("up")
    run = world.run("prices")
    assert run_is_alive(run) and serving(world.workspace, "prices") == [run]
    run.attempts[-1].handle = {**run.attempts[-1].handle, "start_ticks": 1}
    assert not run_is_alive(run) and serving(world.workspace, "prices") == [], "that process number is somebody else's now"
    run.attempts[-1].handle = {"folder": "x", "token": 1}
    assert not run_is_alive(run), "a handle of another engine says nothing of a process here"


def test_gathering_records_nothing(world: World) -> None:
    head = world.workspace.ledger.head()
    gather(world.workspace, steps_for(world.workspace.project.spec, []))
    assert world.workspace.ledger.head() == head


def test_a_folder_stands_for_the_names_and_contents_of_its_files(world: World) -> None:
    folder = world.folder / "llama"
    folder.mkdir()
    with pytest.raises(DataError, match=r"missing or empty.*llama"):
        source_position(world.workspace, "dir://llama")
    (folder / "config.json").write_text("{}")
    first = source_position(world.workspace, "dir://llama")
    assert source_position(world.workspace, f"dir://{folder}") == first, "by whatever path it is named"
    os.utime(folder / "config.json", (1, 1))
    assert source_position(world.workspace, "dir://llama") == first, "a touched file has the same content"
    (folder / "config.json").write_text('{"a": 1}')
    second = source_position(world.workspace, "dir://llama")
    (folder / "config.json").rename(folder / "other.json")
    assert len({first, second, source_position(world.workspace, "dir://llama")}) == 3


def test_what_was_removed_is_not_present_though_its_bytes_lie_there(world: World) -> None:
    world.drive("up")
    version = world.workspace.records.version("price@1")
    assert is_present(world.workspace, version)
    world.workspace.ledger.append([Draft("version.removed", "price@1", {"by": "ann", "reason": "x", "digest": version.digest})])
    world.workspace.refresh()
    assert not is_present(world.workspace, version)
