"""Checkpoints in an object store: a real S3 service, and one that is away for a while."""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch

from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt
from bedplate.core.errors import CheckpointError, SpecError
from bedplate.core.journal import JournalWriter
from bedplate.train.checkpoints.content import Position
from bedplate.train.checkpoints.objects import ObjectPlace, Upload
from bedplate.train.checkpoints.reading import opened
from bedplate.train.distributed import Group
from bedplate.train.keeper import Keeper
from servers.testbed.process import free_ports
from servers.testbed.s3 import S3
from train.samples import attempt_in, journal_of, wait_until

LOCATION = "runs/r/1/checkpoints/step-1"
FACTS = {"of": "objects"}


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL, with everything else in the environment, as a user has it."""
    values = {"ACCESS_KEY_ID": s3.access_key, "SECRET_ACCESS_KEY": s3.secret_key, "ENDPOINT": s3.endpoint, "REGION": "us-east-1"}
    for name, value in {**values, "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return f"s3://checkpoints/{os.urandom(4).hex()}"


def keeper(attempt: Attempt) -> Keeper:
    return Keeper(attempt, JournalWriter(attempt.path, "rank-0"), Group(0, 1), torch.device("cpu"))


def attempt_with(state: Path, token: int, url: str, checkpoint: dict[str, Any] | None = None) -> Attempt:
    attempt = attempt_in(state, token=token, checkpoint=checkpoint)
    attempt.spec["checkpoint"] = {"every_s": 0, "tiers": ["disk", url], "keep": {"last": 1}}  # type: ignore[index]
    return attempt


def test_a_run_goes_on_from_s3_when_the_machine_is_gone(tmp_path: Path, bucket: str) -> None:
    first = attempt_with(tmp_path / "a", 1, bucket)
    layer, writing = torch.nn.Linear(600, 600), keeper(first)
    for step in (1, 2):
        torch.nn.init.constant_(layer.weight, step)
        writing.save(Position(0, 0, step, step), [layer], FACTS)
        writing.settle()
    stored = [entry.body["location"] for entry in journal_of(first, "checkpoint_stored")]
    known = [dict(entry.body) for entry in journal_of(first, "checkpoint")]
    assert stored == [each["location"] for each in known]
    shutil.rmtree(tmp_path / "a")
    second, other = attempt_with(tmp_path / "b", 2, bucket, {**known[1], "previous": [known[0]]}), torch.nn.Linear(600, 600)
    assert keeper(second).restore(0, [other], FACTS) == Position(0, 0, 2, 2)
    assert other.weight.unique().tolist() == [2.0]
    place = ObjectPlace.of(bucket)
    with pytest.raises(CheckpointError, match="cannot be read"):  # one is kept
        place.small(known[0]["location"], "manifest.json")


def test_ranges_are_read_and_sizes_checked(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "part-0.safetensors").write_bytes(bytes(range(100)))
    (tmp_path / "manifest.json").write_bytes(b"{}")
    place = ObjectPlace.of(bucket)
    place.copy(tmp_path, LOCATION)
    assert bytes(place.file(LOCATION, "part-0.safetensors", 100).chunk(10, 13)) == bytes([10, 11, 12])
    with pytest.raises(CheckpointError, match="short or long"):
        place.file(LOCATION, "part-0.safetensors", 99)
    place.delete(LOCATION)
    with pytest.raises(CheckpointError, match="cannot be read"):
        place.file(LOCATION, "part-0.safetensors", 100)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("part-0.json", "part-0.safetensors", "manifest.json"):
        (folder / name).write_text(name)
    return folder


def test_a_store_that_is_away_is_tried_again_and_training_does_not_wait(tmp_path: Path, source: Path) -> None:
    root, told, done = tmp_path / "store", [], Event()
    root.mkdir()
    (root / "runs").write_text("in the way of every put")
    upload = Upload(ObjectPlace.of(f"file://{root}"), lambda *_: done.set(), told.append)
    upload.offer(source, LOCATION)
    wait_until(lambda: bool(told))
    assert not upload.wait(0.01)
    assert upload.needs(LOCATION)
    (root / "runs").unlink()
    assert done.wait(30)
    assert upload.wait(30)
    assert not upload.needs(LOCATION)
    assert len(told) == 1
    assert "tried again" in told[0]
    assert (root / LOCATION / "manifest.json").read_text() == "manifest.json"


def test_while_a_store_is_away_only_the_newest_waits(tmp_path: Path, source: Path) -> None:
    root, told, done = tmp_path / "store", [], []
    root.mkdir()
    (root / "runs").write_text("in the way of every put")
    upload = Upload(ObjectPlace.of(f"file://{root}"), lambda _, location: done.append(location), told.append)
    upload.offer(source, "runs/r/1/checkpoints/step-1")
    wait_until(lambda: bool(told))
    upload.offer(source, "runs/r/1/checkpoints/step-2")
    upload.offer(source, "runs/r/1/checkpoints/step-3")
    (root / "runs").unlink()
    assert upload.wait(30)
    assert done[-1] == "runs/r/1/checkpoints/step-3"
    assert "runs/r/1/checkpoints/step-1" not in done


def test_what_is_no_url() -> None:
    with pytest.raises(SpecError, match="no object store"):
        ObjectPlace.of("nothing://there")


def test_a_store_that_vanishes_while_ranks_train_is_noticed_as_storage_and_gets_the_newest_when_it_is_back(
    hosts: Any, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    root.mkdir()
    (root / "runs").write_text("in the way of every put")
    attempt = attempt_in(tmp_path / "state", world_size=2, function="disturbed", params={"epochs": 6})
    settings = {"tiers": ["disk", f"file://{root}"], "every_s": 0.1}
    attempt = replace(attempt, spec={**attempt.spec, "checkpoint": settings})
    write_json(attempt.path / ATTEMPT_FILE, attempt.to_json())
    hosts.start(attempt)
    wait_until(lambda: bool(journal_of(attempt, "notice")))
    committed = len(journal_of(attempt, "checkpoint"))
    wait_until(
        lambda: len(journal_of(attempt, "checkpoint")) > committed or (attempt.path / "exit").exists()
    )  # it goes on without the store
    (root / "runs").unlink()
    wait_until((attempt.path / "exit").exists)
    assert (attempt.path / "exit").read_text() == "0"
    (notice,) = [entry.body for entry in journal_of(attempt, "notice")]
    assert (notice["failure"], notice["tier"]) == ("storage", f"file://{root}")
    assert "it is tried again" in notice["message"]
    assert not journal_of(attempt, "restart")
    assert not journal_of(attempt, "failure")
    newest = journal_of(attempt, "checkpoint")[-1].body
    assert journal_of(attempt, "checkpoint_stored")[-1].body["location"] == newest["location"]
    assert any("takes checkpoints again" in entry.body["text"] for entry in journal_of(attempt, "message"))
    place = ObjectPlace.of(f"file://{root}")
    opened(newest["location"], newest["digest"], [place]).verify([0, 1])


class Relay(socketserver.BaseRequestHandler):
    """What stands between a client and the service, and can be taken away."""

    def handle(self) -> None:
        with socket.create_connection(self.server.behind) as service:
            self.server.held += [self.request, service]
            back = Thread(target=_copied, args=(service, self.request), daemon=True)
            back.start()
            _copied(self.request, service)
            back.join()


def _copied(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):  # either side may hang up
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Relays(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, block_on_close = True, True, False


@contextmanager
def relay(port: int, service: str) -> Iterator[None]:
    with Relays(("127.0.0.1", port), Relay) as server:
        server.held = []
        server.behind = (urlsplit(service).hostname, urlsplit(service).port)
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield
        server.shutdown()
        for held in server.held:  # clients keep connections
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)


def test_s3_that_stops_and_starts_again_costs_a_notice_and_gets_what_is_newest(
    tmp_path: Path, bucket: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{port}")
    attempt = attempt_with(tmp_path, 1, bucket)
    writing, layer = keeper(attempt), torch.nn.Linear(40, 40)
    with relay(port, s3.endpoint):
        writing.save(Position(0, 0, 1, 1), [layer], FACTS)
        wait_until(lambda: len(journal_of(attempt, "checkpoint_stored")) == 1)
    for step in (2, 3):
        writing.save(Position(0, 0, step, step), [layer], FACTS)
        wait_until(lambda step=step: len(journal_of(attempt, "checkpoint")) == step)  # the disk has it, whatever S3 does
    wait_until(lambda: bool(journal_of(attempt, "notice")))
    with relay(port, s3.endpoint):
        wait_until(lambda: len(journal_of(attempt, "checkpoint_stored")) == 2)
    newest = journal_of(attempt, "checkpoint")[-1].body
    assert [entry.body["step"] for entry in journal_of(attempt, "checkpoint_stored")] == [1, 3]
    assert [entry.body["failure"] for entry in journal_of(attempt, "notice")] == ["storage"]
    monkeypatch.setenv("AWS_ENDPOINT", s3.endpoint)
    opened(newest["location"], newest["digest"], [ObjectPlace.of(bucket)]).verify([0])


def test_a_disk_that_fails_and_is_well_again_is_noticed_once(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path)
    writing, layer = keeper(attempt), torch.nn.Linear(4, 4)
    (attempt.path / "checkpoints").write_text("no folder")
    for step in (1, 2, 3):
        if step == 3:
            (attempt.path / "checkpoints").unlink()
        writing.save(Position(0, 0, step, step), [layer], FACTS)
        writing.wait()
    (notice,) = [entry.body for entry in journal_of(attempt, "notice")]
    assert (notice["failure"], notice["tier"], notice["rank"]) == ("storage", "disk", 0)
    assert [entry.body["step"] for entry in journal_of(attempt, "checkpoint")] == [3]
    assert [entry.body["text"] for entry in journal_of(attempt, "message")] == ["disk takes checkpoints again"]
