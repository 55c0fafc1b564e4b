"""The canary on a real endpoint: rows of its spine and requests of a file; what fails is named."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, DataError, NotFound, Unavailable
from bedplate.flow.canary import check
from bedplate.flow.opened import OpenProject
from flow.world import World


def requests(folder: Path, *lines: object) -> Path:
    file = folder / "requests.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def test_the_newest_rows_of_the_spine_are_asked(served: tuple[Path, OpenProject]) -> None:
    found = check(served[1]._workspace, "amounts", 7)
    assert (found.endpoint, found.model, found.asked, found.failed) == ("amounts", "amount@1", 7, ())
    assert 0 < found.latency_p99_s < 30


def test_requests_of_a_file_may_say_where_the_answer_must_lie(served: tuple[Path, OpenProject], tmp_path: Path) -> None:
    workspace = served[1]._workspace
    good = {"id": 5}
    file = requests(tmp_path, {**good, "between": [-1e9, 1e9]}, {**good, "between": [1e8, 1e9]}, {**good, "siez": 3})
    found = check(workspace, "amounts", 10, file)
    assert found.asked == 3 and len(found.failed) == 2
    assert "is not within [100000000.0, 1000000000.0]" in found.failed[0] and "siez" in found.failed[1]
    assert check(workspace, "amounts", 1, file).failed == ()


def test_a_latency_that_is_too_long_fails(served: tuple[Path, OpenProject]) -> None:
    [failed] = check(served[1]._workspace, "amounts", 2, latency_s=1e-9).failed
    assert failed.startswith("the slowest percent takes ")


def test_what_cannot_be_asked_says_so(served: tuple[Path, OpenProject], tmp_path: Path) -> None:
    workspace = served[1]._workspace
    with pytest.raises(NotFound, match="did you mean 'amounts'"):
        check(workspace, "amount", 1)
    with pytest.raises(NotFound, match="no such file of requests"):
        check(workspace, "amounts", 1, tmp_path / "none")
    with pytest.raises(DataError, match="is no JSON"):
        check(workspace, "amounts", 1, requests(tmp_path, "{"))
    with pytest.raises(DataError, match="no request to ask"):
        check(workspace, "amounts", 1, requests(tmp_path, ""))


def test_an_endpoint_that_is_down_or_does_not_answer_is_not_well(world: World) -> None:
    with pytest.raises(Unavailable, match="the endpoint is not up"):
        check(world.workspace, "prices", 1)
    world.drive("up")
    with pytest.raises(BedplateError, match="does not answer"):
        check(world.workspace, "prices", 1)  # simulated: nothing listens on its port


class Endpoint(BaseHTTPRequestHandler):
    """An endpoint that answers as its class says, on a real port."""

    health = 200
    answers: tuple[tuple[int, str], ...] = ()

    def do_GET(self) -> None:
        said = {"model": "price@1", "fields": {"id": "int"}}
        self.reply(self.health if self.path == "/health" else 200, json.dumps(said))

    def do_POST(self) -> None:
        number = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["id"]
        self.reply(*self.answers[number])

    def reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def answering(world: World) -> Iterator[tuple[World, type[Endpoint]]]:
    """The simulated shop, whose endpoint is a real server that says what a test wants."""
    kind = type("Said", (Endpoint,), {})
    server = HTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    world.scripts["prices"] = lambda _: [(0.5, "ready", {"port": server.server_port}), (1e9, "ended", {"status": "stopped"})]
    world.drive("up")
    yield world, kind
    server.shutdown()
    server.server_close()
    thread.join()


def test_every_kind_of_bad_answer_is_named_with_its_request(answering: tuple[World, type[Endpoint]], tmp_path: Path) -> None:
    world, kind = answering
    kind.answers = (
        (200, '{"prediction": 1.5}'),
        (500, '{"error": {"what": "predict failed: ValueError"}}'),
        (200, '{"prediction": NaN}'),
        (200, '{"prediction": null}'),
        (200, "not JSON"),
        (200, "{}"),
    )
    found = check(world.workspace, "prices", 10, requests(tmp_path, *({"id": number} for number in range(6))))
    assert (found.model, found.asked) == ("price@1", 6)
    assert [why.partition(": ")[2] for why in found.failed if "no answer" not in why] == [
        "1}: 500 predict failed: ValueError",
        "2}: the prediction is nan",
        "3}: the prediction is None",
        "5}: the prediction is None",
    ]
    assert sum("no answer" in why for why in found.failed) == 1


def test_an_endpoint_that_is_not_healthy_is_asked_nothing(answering: tuple[World, type[Endpoint]], tmp_path: Path) -> None:
    world, kind = answering
    kind.health = 503
    with pytest.raises(Unavailable, match=r"the endpoint is not healthy .* see `bedplate logs prices`"):
        check(world.workspace, "prices", 1, requests(tmp_path, {"id": 0}))
