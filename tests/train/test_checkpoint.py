from pathlib import Path
from typing import Any

import pytest
import torch

from bedplate.core.attempt import Attempt
from bedplate.core.errors import CheckpointError
from bedplate.core.journal import JournalWriter
from bedplate.train.checkpoint import CheckpointWriter, Content, Position, load, newest
from train.samples import attempt_in, journal_of

FILES = ("state.safetensors", "state.json", "manifest.json")


def content(step: int, value: float = 1.0) -> Content:
    states = [{"w": torch.full((4, 3), value), "b": torch.tensor([1, 2])}, {"state": {0: {"m": torch.ones(())}}, "lr": 0.1}]
    return Content(Position(0, 1, 64 * step, step), states, [{"torch": "x"}], {"batch_size": 64})


def written(attempt: Attempt, *steps: int) -> list[dict[str, Any]]:
    journal = JournalWriter(attempt.path, "rank-0")
    writer = CheckpointWriter(attempt, journal)
    for step in steps:
        writer.begin(content(step, float(step)))
    writer.wait()
    journal.close()
    return [dict(entry.body) for entry in journal_of(attempt, "checkpoint")]


def place(attempt: Attempt, known: dict[str, Any]) -> Path:
    return Path(attempt.state) / known["location"]


def test_what_was_written_is_loaded(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path)
    (known,) = written(attempt, 3)
    assert known["location"] == "runs/r1/1/checkpoints/step-3"
    assert (known["step"], known["epoch"], known["position"]) == (3, 1, 192)
    loaded, expected = load(place(attempt, known), known["digest"]), content(3, 3.0)
    assert (loaded.position, loaded.facts, list(loaded.generators)) == (expected.position, expected.facts, expected.generators)
    assert torch.equal(loaded.states[0]["w"], expected.states[0]["w"])
    assert loaded.states[1]["state"][0]["m"] == 1.0


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_found_and_the_file_named(tmp_path: Path, name: str) -> None:
    attempt = attempt_in(tmp_path)
    (known,) = written(attempt, 1)
    path = place(attempt, known) / name
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=name):
            load(place(attempt, known), known["digest"])
    path.write_bytes(whole)
    load(place(attempt, known), known["digest"])


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_short_file_is_found(tmp_path: Path, name: str) -> None:
    attempt = attempt_in(tmp_path)
    (known,) = written(attempt, 1)
    path = place(attempt, known) / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=name):
        load(place(attempt, known), known["digest"])
    path.unlink()
    with pytest.raises(CheckpointError, match=name):
        load(place(attempt, known), known["digest"])


def test_the_last_two_are_kept_and_a_step_is_written_once(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path)
    known = written(attempt, 1, 2, 3, 3)
    assert [each["step"] for each in known] == [1, 2, 3]
    assert sorted(path.name for path in (attempt.path / "checkpoints").iterdir()) == ["step-2", "step-3"]


def test_the_one_restored_from_is_never_deleted(tmp_path: Path) -> None:
    first = attempt_in(tmp_path)
    known = written(first, 1)[0]
    written(attempt_in(tmp_path, token=2, checkpoint=known), 2, 3, 4, 5)
    assert load(place(first, known), known["digest"]).position.step == 1


def test_copies_do_not_follow_the_training_that_goes_on(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path)
    writer = CheckpointWriter(attempt, JournalWriter(attempt.path, "rank-0"))
    weights = torch.zeros(1 << 20)
    for step in (1, 2):
        weights += 1
        writer.begin(Content(Position(0, 0, 0, step), [{"w": weights}], [], {}))
        weights += 100  # while it is being written
        weights -= 100
    writer.wait()
    for known in journal_of(attempt, "checkpoint"):
        loaded = load(place(attempt, dict(known.body)), known.body["digest"])
        assert loaded.states[0]["w"].unique().tolist() == [float(known.body["step"])]


def test_a_disk_that_refuses_is_told_and_the_training_goes_on(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path)
    (attempt.path / "checkpoints").write_text("a file where the folder would be")
    assert written(attempt, 1) == []
    (message,) = journal_of(attempt, "message")
    assert "step 1 could not be written" in message.body["text"]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    older, newer = written(attempt_in(tmp_path), 1, 2)
    attempt = attempt_in(tmp_path, token=2, checkpoint={**newer, "previous": [older]})
    (place(attempt, newer) / "state.safetensors").write_bytes(b"")
    journal = JournalWriter(attempt.path, "rank-0")
    found = newest(attempt, journal)
    assert found is not None
    assert found[0].position.step == 1
    (message,) = journal_of(attempt, "message")
    assert "step 2 is passed over" in message.body["text"]
    assert "state.safetensors" in message.body["text"]
    (place(attempt, older) / "manifest.json").unlink()
    assert newest(attempt, journal) is None


def test_a_location_outside_the_state_is_not_read(tmp_path: Path) -> None:
    (known,) = written(attempt_in(tmp_path / "theirs"), 1)
    attempt = attempt_in(tmp_path / "ours", checkpoint={**known, "location": "../theirs/" + known["location"]})
    assert newest(attempt, JournalWriter(attempt.path, "rank-0")) is None


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path)
    assert newest(attempt, JournalWriter(attempt.path, "rank-0")) is None
