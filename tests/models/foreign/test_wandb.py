"""An offline run of W&B, read from the file that wandb wrote, against what wandb's own protocol buffers say is in it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.models.foreign.records import RegisteredVersion, Run
from bedplate.models.foreign.wandb import BLOCK, WandbStore, frames
from models.foreign.stores import FIXTURES, wandb_folder

TOLD = json.loads((FIXTURES / "wandb-run.json").read_text())


@pytest.fixture
def store(tmp_path: Path) -> WandbStore:
    return WandbStore(wandb_folder(tmp_path))


def only(store: WandbStore) -> Run:
    [experiment] = store.experiments()
    [run] = store.runs(experiment.id)
    return run


def test_every_number_of_the_history_is_a_point(store: WandbStore) -> None:
    told = [
        (name, float(value), 1000 * row["_timestamp"], row["_step"])
        for row in TOLD["history"]
        for name, value in row.items()
        if not name.startswith("_") and isinstance(value, int | float)
    ]
    found = [tuple(point) for point in store.points(only(store).id) if point.name != "best"]
    plain = {(name, repr(value), round(at_ms, 3), step) for name, value, at_ms, step in found}
    assert plain == {(name, repr(value), round(at_ms, 3), step) for name, value, at_ms, step in told}
    assert len(found) == len(told) == 22
    assert any(math.isnan(value) for _, value, _, _ in found)
    assert any(math.isinf(value) for _, value, _, _ in found)


def test_config_labels_summary_and_the_end(store: WandbStore) -> None:
    run = only(store)
    assert (run.id, run.name, run.experiment, run.status) == ("wandb-old-abc123", "first", "old", "FINISHED")
    assert run.params == {"lr": "0.2", "layers": "[1, 2]", "opt.name": "adam", "opt.betas.first": "0.9"}
    assert (run.tags["mlflow.note.content"], run.tags["wandb.group"]) == ("a note", "sweeps")
    assert json.loads(run.tags["wandb.tags"]) == ["good", "night"]
    assert [point.value for point in store.points(run.id) if point.name == "best"] == [0.2], "what was put into the summary only"
    assert run.end_ms is not None
    assert run.end_ms >= run.start_ms


def test_its_files_and_the_raw_log_are_artifacts(store: WandbStore, tmp_path: Path) -> None:
    run = only(store)
    names = [artifact.name for artifact in store.artifacts(run)]
    raw = "wandb/offline-run-20261123_050000-abc123.wandb"
    assert names == ["files/notes.txt", raw], "the file of the logged artifact is no longer where it was staged"
    store.fetch(run, raw, tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == gzip.decompress((FIXTURES / "wandb-run.wandb.gz").read_bytes())


def test_records_span_blocks_and_a_file_cut_short_is_read_up_to_there() -> None:
    data = gzip.decompress((FIXTURES / "wandb-run.wandb.gz").read_bytes())
    assert len(data) > 2 * BLOCK
    whole = list(frames(data, "file"))
    assert len(whole) == TOLD["records"]
    for end in [*range(7, 2000, 13), BLOCK - 3, BLOCK + 2, len(data) - 1]:
        assert list(frames(data[:end], "file")) == whole[: len(list(frames(data[:end], "file")))]
    assert len(list(frames(data[:-1], "file"))) == TOLD["records"] - 1


def test_damage_in_the_middle_is_named_with_its_place(tmp_path: Path) -> None:
    data = bytearray(gzip.decompress((FIXTURES / "wandb-run.wandb.gz").read_bytes()))
    data[300] ^= 1
    with pytest.raises(DataError, match=r"damaged at byte \d+.*'file'"):
        list(frames(bytes(data), "file"))
    with pytest.raises(DataError, match="no run file of W&B"):
        list(frames(b"text" * 10, "file"))


def test_a_run_that_was_killed_has_no_end_and_one_that_was_resumed_is_one_run(tmp_path: Path) -> None:
    folder = wandb_folder(tmp_path)
    [file] = folder.glob("*/run-abc123.wandb")
    whole = file.read_bytes()
    file.write_bytes(whole[:3000])
    killed = only(WandbStore(folder))
    assert killed.status == "KILLED"
    again = folder / "offline-run-20261123_060000-abc123"
    again.mkdir()
    (again / "run-abc123.wandb").write_bytes(whole)
    store = WandbStore(folder)
    assert only(store).status == "FINISHED"
    assert len([artifact for artifact in store.artifacts(only(store)) if artifact.name.startswith("wandb/")]) == 2


def test_one_run_its_folder_or_the_folder_above_can_be_named(tmp_path: Path) -> None:
    folder = wandb_folder(tmp_path)
    [run] = folder.glob("offline-run-*")
    for place in (folder, run, tmp_path):
        assert only(WandbStore(place)).id == "wandb-old-abc123"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no offline run of W&B"):
        WandbStore(tmp_path / "empty")


def test_records_of_system_metrics_and_old_forms_of_keys(tmp_path: Path) -> None:
    """Records as older versions write them, framed here: values under `key`, nested ones as JSON, samples of the machine."""

    def field(number: int, value: bytes | int) -> bytes:
        key = number << 3 | (0 if isinstance(value, int) else 2)
        head = bytes([key]) if key < 128 else bytes([key & 0x7F | 0x80, key >> 7])
        return head + (bytes([value]) if isinstance(value, int) else bytes([len(value)]) + value)

    def item(name: str, text: str) -> bytes:
        return field(1, name.encode()) + field(16, text.encode())

    records = [
        field(17, field(1, b"r1") + field(3, b"new project") + field(17, field(1, 5))),
        field(2, field(1, item("metrics", '{"a": 1.5, "image": {"_type": "image-file"}}')) + field(1, item("_step", "3"))),
        field(7, field(2, field(1, 9)) + field(3, item("cpu", "12.5")) + field(3, item("name", '"x"'))),
    ]
    body = b":W&B\xe1\xbe\x00"
    for record in records:
        crc = zlib.crc32(record, zlib.crc32(b"\x01"))
        body += crc.to_bytes(4, "little") + len(record).to_bytes(2, "little") + b"\x01" + record
    (tmp_path / "run-r1.wandb").write_bytes(body)
    store = WandbStore(tmp_path)
    run = only(store)
    assert run.id == "wandb-new-project-r1"
    assert [(point.name, point.value, point.step) for point in store.points(run.id)] == [("metrics.a", 1.5, 3), ("system/cpu", 12.5, 0)]


# -- files that are written here, record by record, as W&B frames them ------------------------------------------------------------------


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def part(number: int, value: bytes | int | str) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def keyed(name: str | tuple[str, ...], value: object) -> bytes:
    """An item of a history, a config or a summary: the name under `key`, or a path under `nested_key`."""
    path = part(1, name) if isinstance(name, str) else b"".join(part(2, each) for each in name)
    return path + part(16, json.dumps(value))


def begin(identity: str = "r1", project: str = "wine", start_s: int = 5, more: bytes = b"") -> bytes:
    return part(17, part(1, identity) + part(3, project) + part(17, part(1, start_s)) + more)


def history(step: int | None = None, **values: object) -> bytes:
    items = b"".join(part(1, keyed(name, value)) for name, value in values.items())
    return part(2, items + (part(2, part(1, step)) if step is not None else b""))


def ended(code: int, runtime_s: int) -> bytes:
    return part(18, part(1, code) + part(2, runtime_s))


def framed(records: list[bytes]) -> bytes:
    """The file of these records, in blocks: a record that does not fit is cut, less than a header at a block's end is filled with zeros."""
    out = bytearray(b":W&B\xe1\xbe\x00")
    for record in records:
        rest, first = record, True
        while True:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += bytes(left)
                continue
            piece, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if first else 4) if not rest else (2 if first else 3)
            out += zlib.crc32(piece, zlib.crc32(bytes([kind]))).to_bytes(4, "little") + len(piece).to_bytes(2, "little") + bytes([kind])
            out += piece
            first = False
            if not rest:
                break
    return bytes(out)


def written(folder: Path, *records: bytes, name: str = "r1") -> WandbStore:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"run-{name}.wandb").write_bytes(framed(list(records)))
    return WandbStore(folder)


def shown(store: WandbStore) -> list[tuple[str, float, int]]:
    return [(point.name, point.value, point.step) for point in store.points(only(store).id)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2 * BLOCK + 20) | st.integers(BLOCK - 30, BLOCK), min_size=1, max_size=4), st.data())
def test_records_of_any_length_are_read_whole_and_a_cut_costs_only_the_last(lengths: list[int], data: st.DataObject) -> None:
    records = [bytes([number % 251]) * length for number, length in enumerate(lengths, 1)]
    whole = framed(records)
    assert list(frames(whole, "file")) == records
    end = data.draw(st.integers(7, len(whole) - 1))
    found = list(frames(whole[:end], "file"))
    assert found == records[: len(found)]
    assert len(found) < len(records)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 255))
def test_no_changed_byte_before_the_last_record_goes_unnoticed(place: int, change: int) -> None:
    records = [part(2, bytes([number]) * 300) for number in range(12)]
    data = bytearray(framed(records))
    at = 7 + place % (len(framed(records[:-1])) - 7)
    data[at] ^= change
    try:
        found = list(frames(bytes(data), "file"))
    except DataError as error:
        assert "damaged at byte" in error.what
    else:  # a length that now reaches beyond the end looks like a record that was being written
        assert found == records[: len(found)]
        assert len(found) < len(records)


def test_a_length_that_leaves_its_block_is_damage_and_no_end_of_the_file() -> None:
    data = bytearray(framed([b"a" * 100, b"b" * 100, b"c" * 100]))
    second = 7 + 107
    data[second + 4 : second + 6] = (BLOCK + 9).to_bytes(2, "little")
    with pytest.raises(DataError, match=f"damaged at byte {second}"):
        list(frames(bytes(data), "file"))


@pytest.mark.parametrize(("count", "status"), [(0, "FINISHED"), (1, "FAILED"), (255, "FAILED")])
def test_the_exit_code_is_the_status_and_the_runtime_the_end(tmp_path: Path, count: int, status: str) -> None:
    run = only(written(tmp_path, begin(start_s=100), history(loss=1.0, _timestamp=101.5), ended(count, 60)))
    assert (run.status, run.start_ms, run.end_ms) == (status, 100_000, 160_000)


def test_without_an_exit_the_last_point_is_the_end_as_far_as_it_is_known(tmp_path: Path) -> None:
    run = only(written(tmp_path, begin(start_s=100), history(loss=1.0, _timestamp=130.25)))
    assert (run.status, run.end_ms) == ("KILLED", 130_250)
    silent = only(written(tmp_path / "silent", begin(start_s=100)))
    assert (silent.status, silent.end_ms) == ("KILLED", None)


def test_steps_are_those_that_were_logged_else_those_of_the_record_else_one_more(tmp_path: Path) -> None:
    store = written(tmp_path, begin(), history(step=4, loss=3.0), history(step=9, loss=2.0, _step=7), history(loss=1.0))
    assert shown(store) == [("loss", 3.0, 4), ("loss", 2.0, 7), ("loss", 1.0, 8)]


@pytest.mark.parametrize(
    ("value", "points"),
    [
        (1, [("x", 1.0)]),
        (-2.5, [("x", -2.5)]),
        (True, [("x", 1.0)]),
        ("Infinity", [("x", math.inf)]),
        ("-Infinity", [("x", -math.inf)]),
        ("good", []),
        (None, []),
        ([1, 2], []),
        ({}, []),
        ({"a": 1, "b": {"c": 2}}, [("x.a", 1.0), ("x.b.c", 2.0)]),
        ({"_type": "histogram", "values": [1]}, []),
        ({"a": {"_type": "image-file", "size": 3}, "b": 4}, [("x.b", 4.0)]),
    ],
)
def test_numbers_are_points_and_what_is_none_is_not(tmp_path: Path, value: object, points: list[tuple[str, float]]) -> None:
    store = written(tmp_path, begin(), history(step=0, x=value))
    assert [(name, number) for name, number, _ in shown(store)] == points


def test_what_wandb_says_of_itself_is_no_metric_but_a_name_like_it_is(tmp_path: Path) -> None:
    own = part(2, part(1, keyed(("_wandb", "runtime"), 3)) + part(1, keyed("_runtime", 2.5)) + part(1, keyed(("opt", "lr"), 0.1)))
    summary = part(3, part(1, keyed("_step_size", 8)) + part(1, keyed("_step", 3)) + part(1, keyed(("_wandb", "runtime"), 3)))
    store = written(tmp_path, begin(), own, summary)
    assert [(name, value) for name, value, _ in shown(store)] == [("opt.lr", 0.1), ("_step_size", 8.0)]


def test_a_config_is_what_its_last_change_left(tmp_path: Path) -> None:
    first = part(1, keyed("lr", 0.1)) + part(1, keyed(("opt", "name"), "adam")) + part(1, keyed(("opt", "eps"), 1e-8))
    later = part(1, keyed("lr", 0.2)) + part(2, keyed(("opt", "eps"), None)) + part(2, keyed(("never", "there"), None))
    store = written(tmp_path, begin(more=part(4, first)), part(5, later))
    assert only(store).params == {"lr": "0.2", "opt.name": "adam"}


@pytest.mark.parametrize("before", [5, None, "text", [1]])
def test_a_plain_value_gives_way_to_what_is_nested_below_it(tmp_path: Path, before: object) -> None:
    first = part(1, keyed("opt", before)) + part(1, keyed("lr", 7))
    store = written(tmp_path, begin(more=part(4, first)), part(5, part(1, keyed(("opt", "lr"), 0.1))))
    assert only(store).params == {"opt.lr": "0.1", "lr": "7"}, "and nothing beside it is touched"


@pytest.mark.parametrize(
    ("value", "text"),
    [("adam", "adam"), (3, "3"), (True, "true"), (None, "null"), ([1, "a"], '[1, "a"]'), ({}, "{}"), ("", ""), (1e-8, "1e-08")],
)
def test_params_are_text_as_json_has_it(tmp_path: Path, value: object, text: str) -> None:
    assert only(written(tmp_path, begin(more=part(4, part(1, keyed("p", value)))))).params == {"p": text}


def test_the_summary_adds_what_the_history_lacks_at_the_last_step_and_the_end(tmp_path: Path) -> None:
    summary = part(3, part(1, keyed("loss", 9.0)) + part(1, keyed("best", 0.5)) + part(1, keyed("note", "x")) + part(1, keyed("gone", 1)))
    removed = part(3, part(2, keyed("gone", None)))
    store = written(tmp_path, begin(start_s=1), history(step=6, loss=1.0, _timestamp=4.0), summary, removed, ended(0, 10))
    assert [tuple(point) for point in store.points(only(store).id)] == [("loss", 1.0, 4000.0, 6), ("best", 0.5, 11_000.0, 6)]


def test_samples_of_the_machine_count_for_themselves(tmp_path: Path) -> None:
    def sample(at_s: int, **values: object) -> bytes:
        return part(7, part(2, part(1, at_s)) + b"".join(part(3, keyed(name, value)) for name, value in values.items()))

    store = written(tmp_path, begin(), history(step=40, loss=1.0), sample(9, cpu=10), sample(19, cpu=30, disk="full"))
    found = [tuple(point) for point in store.points(only(store).id) if point.name.startswith("system/")]
    assert found == [("system/cpu", 10.0, 9000.0, 0), ("system/cpu", 30.0, 19_000.0, 1)]


def test_projects_are_experiments_and_runs_are_in_the_order_of_their_start(tmp_path: Path) -> None:
    for name, project, start_s in (("a", "wine", 30), ("b", "wine", 10), ("c", "", 20)):
        folder = tmp_path / "wandb" / f"offline-run-x-{name}"
        folder.mkdir(parents=True)
        (folder / f"run-{name}.wandb").write_bytes(framed([begin(name, project, start_s)]))
    store = WandbStore(tmp_path)
    assert [(each.name, each.created_ms) for each in store.experiments()] == [("uncategorized", 20_000), ("wine", 10_000)]
    assert [run.id for run in store.runs("wine")] == ["wandb-wine-b", "wandb-wine-a"]
    assert [run.name for run in store.runs("uncategorized")] == ["c"]
    assert list(store.runs("beer")) == []


def test_a_run_without_a_name_is_called_by_its_id_and_its_facts_are_tags(tmp_path: Path) -> None:
    more = part(2, "team") + part(6, "g") + part(7, "fit") + part(12, "s1") + part(13, "node7") + part(10, "night")
    run = only(written(tmp_path, begin(more=more)))
    assert (run.name, run.user) == ("r1", "team")
    assert run.tags == {
        "wandb.run_id": "r1",
        "wandb.project": "wine",
        "wandb.group": "g",
        "wandb.job_type": "fit",
        "wandb.sweep": "s1",
        "wandb.host": "node7",
        "wandb.tags": '["night"]',
    }


@pytest.mark.parametrize(
    ("project", "identity"), [("a b/c", "wandb-a-b-c-r1"), ("größe", "wandb-größe-r1"), ("", "wandb-uncategorized-r1")]
)
def test_ids_hold_no_separators(tmp_path: Path, project: str, identity: str) -> None:
    assert only(written(tmp_path, begin(project=project))).id == identity


@pytest.mark.parametrize("change", ["none", "content", "gone", "no digest"])
def test_a_file_of_a_logged_artifact_is_taken_only_while_it_is_what_was_logged(tmp_path: Path, change: str) -> None:
    staged = tmp_path / "staging" / "x1"
    staged.parent.mkdir()
    staged.write_bytes(b"weights")
    digest = base64.b64encode(hashlib.md5(b"weights", usedforsecurity=False).digest()).decode()
    entry = part(1, "w.bin") + (part(2, digest) if change != "no digest" else b"") + part(6, str(staged))
    logged = part(8, part(4, "model") + part(5, "delay v2") + part(12, part(4, entry)))
    if change == "content":
        staged.write_bytes(b"weightz")
    store = written(tmp_path / "run", begin(), logged)
    if change == "gone":
        staged.unlink()
    names = [each.name for each in store.artifacts(only(store))]
    assert names == (["artifacts/model-delay-v2/w.bin", "wandb/run.wandb"] if change == "none" else ["wandb/run.wandb"])


@pytest.mark.parametrize("records", [[], [history(step=0, loss=1.0)]])
def test_a_file_that_names_no_run_is_refused(tmp_path: Path, records: list[bytes]) -> None:
    with pytest.raises(DataError, match=r"the file names no run .*run-r1\.wandb.*leave it out"):
        written(tmp_path, *records)


def test_there_is_no_registry(tmp_path: Path) -> None:
    store = written(tmp_path, begin())
    assert store.registered() == []
    with pytest.raises(DataError, match="have no registry"):
        store.versions("delay")
    with pytest.raises(DataError, match="have no registry"):
        store.fetch_version(RegisteredVersion("delay", 1), tmp_path)
    store.close()
