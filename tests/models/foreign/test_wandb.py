"""An offline run of W&B, read from the file that wandb wrote, against what wandb's own protocol buffers say is in it."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.models.foreign.records import Run
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
