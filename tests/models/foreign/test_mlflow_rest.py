"""A server read by MLflow's REST API: the project's own, which holds what was imported from a database; and what it says when it cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from bedplate.core.errors import DataError
from bedplate.flow.hosting import Place, tracking_served
from bedplate.flow.importing import bring
from bedplate.flow.workspace import open_workspace
from bedplate.models.foreign.mlflow_rest import RestStore, proxied
from bedplate.models.foreign.mlflow_sqlite import SqliteStore
from bedplate.models.foreign.records import RegisteredVersion, Run
from models.foreign.stores import everything, mlflow_store


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, SqliteStore]]:
    """The address of a server, and the database whose content it has."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "bedplate.yaml").write_text("project: cellar\n")
    with closing(SqliteStore(mlflow_store(tmp_path / "mlflow"))) as source, open_workspace(tmp_path / "project") as workspace:
        bring(workspace, source)
        with tracking_served(workspace, Place()) as address:
            yield address, source


def test_a_server_gives_what_the_database_gives(served: tuple[str, SqliteStore], tmp_path: Path) -> None:
    address, source = served
    with closing(RestStore(address)) as store:
        assert store.identity == address
        assert everything(store, tmp_path / "rest") == everything(source, tmp_path / "sqlite")


def test_what_cannot_be_asked_is_named(served: tuple[str, SqliteStore]) -> None:
    address, _ = served
    with closing(RestStore(address)) as store, pytest.raises(DataError, match=r"refused: 404.*Run"):
        store.points("nothing")
    with closing(RestStore("http://127.0.0.1:9")) as store, pytest.raises(DataError, match="does not answer"):
        store.experiments()
    with pytest.raises(DataError, match="no URL of a server"):
        RestStore("http://")


def test_credentials_are_sent_and_never_recorded() -> None:
    with closing(RestStore("https://ann:p%40ss@host:5000/base/")) as store:
        assert store.identity == "https://host:5000/base"
        request = next(store.client.auth.auth_flow(store.client.build_request("GET", "/x")))
        assert request.headers["Authorization"].startswith("Basic ")
        assert "p%40ss" not in str(request.url)


# -- answers in pages, and through the artifacts' proxy, as https://mlflow.org/docs/latest/api_reference/rest-api.html has them ---------


class Scripted(BaseHTTPRequestHandler):
    """A server that gives one item a page and keeps what it was asked; FILES lie behind its proxy of artifacts."""

    protocol_version = "HTTP/1.1"
    FILES: ClassVar[dict[str, bytes]] = {"1/r1/artifacts/a b#c?.txt": b"odd name", "1/r1/artifacts/model/w.bin": bytes(range(256)) * 999}
    PAGES: ClassVar[dict[str, tuple[str, list[dict[str, object]]]]] = {
        "experiments/search": ("experiments", [{"experiment_id": str(number), "name": f"e{number}"} for number in (10, 9, 2)]),
        "runs/search": (
            "runs",
            [
                {"info": {"run_id": "r1", "experiment_id": "2", "artifact_uri": "mlflow-artifacts:/1/r1/artifacts", "start_time": "5"}},
                {"info": {"run_id": "r2", "experiment_id": "2", "run_name": "two", "status": "FAILED", "end_time": 9}},
            ],
        ),
        "metrics/get-history": (
            "metrics",
            [{"value": value, "timestamp": at} for value, at in (("NaN", "7"), ("Infinity", 6), (2, 5), ("-Infinity", 6))],
        ),
        "registered-models/search": (
            "registered_models",
            [{"name": "it's", "aliases": [{"alias": "best", "version": "3"}]}, {"name": "b", "tags": [{"key": "k"}], "description": "d"}],
        ),
        "model-versions/search": (
            "model_versions",
            [{"name": "it's", "version": str(number), "current_stage": stage} for number, stage in ((10, "Staging"), (3, ""))],
        ),
    }

    def answer(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def asked(self) -> dict[str, str]:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        return {**dict(parse_qsl(urlsplit(self.path).query)), **body}

    def do_GET(self) -> None:
        asked = self.asked()
        path = unquote(urlsplit(self.path).path)
        route = path.removeprefix("/api/2.0/mlflow/")
        self.server.seen.append((route, asked))  # type: ignore[attr-defined] # the server is made below, with it
        if path.startswith("/api/2.0/mlflow-artifacts/artifacts"):
            self.artifact(path.removeprefix("/api/2.0/mlflow-artifacts/artifacts").strip("/"), asked.get("path", ""))
        elif route in self.PAGES:
            noun, items = self.PAGES[route]
            at = int(asked.get("page_token", "0"))
            more = {"next_page_token": str(at + 1)} if at + 1 < len(items) else {}
            self.answer(json.dumps({noun: items[at : at + 1], **more}).encode())
        elif route == "runs/get":
            self.answer(json.dumps({"run": {"data": {"metrics": [{"key": "loss"}]}}}).encode())
        elif route == "model-versions/get-download-uri":
            self.answer(b'{"artifact_uri": "mlflow-artifacts://any.host:5000/1/r1/artifacts"}')
        else:
            self.answer(b"<html>please log in</html>" if route == "artifacts/list" else b"no such route", 200 if "list" in route else 404)

    do_POST = do_GET

    def artifact(self, name: str, folder: str) -> None:
        if name in self.FILES:
            self.answer(self.FILES[name])
        elif name:
            self.answer(b"there is no such file", 404)
        else:
            below = [path.removeprefix(f"{folder}/") for path in self.FILES if path.startswith(f"{folder}/")]
            files = [
                {"path": each.partition("/")[0], "is_dir": "/" in each, "file_size": len(self.FILES[f"{folder}/{each}"])} for each in below
            ]
            self.answer(json.dumps({"files": files}).encode())

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def scripted() -> Iterator[tuple[RestStore, list[tuple[str, dict[str, str]]]]]:
    """A store of such a server, and what the server was asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    server.seen = []  # type: ignore[attr-defined] # for the handler
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with closing(RestStore(f"http://127.0.0.1:{server.server_port}")) as store:
            yield store, server.seen  # type: ignore[attr-defined] # as above
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_all_pages_are_read_and_experiments_are_in_the_order_of_their_numbers(scripted) -> None:
    store, seen = scripted
    assert [(each.id, each.name, each.lifecycle) for each in store.experiments()] == [
        ("2", "e2", "active"),
        ("9", "e9", "active"),
        ("10", "e10", "active"),
    ]
    assert [asked.get("page_token") for _, asked in seen] == [None, "1", "2"]
    assert all(asked["view_type"] == "ALL" for _, asked in seen), "deleted ones too"


def test_runs_have_what_the_server_left_out_as_empty(scripted) -> None:
    store, seen = scripted
    first, second = store.runs("2")
    assert (first.id, first.name, first.status, first.start_ms, first.end_ms) == ("r1", "", "RUNNING", 5, None)
    assert (second.name, second.status, second.end_ms, second.artifact_uri, second.params) == ("two", "FAILED", 9, "", {})
    assert seen[0][1]["experiment_ids"] == ["2"]
    assert seen[0][1]["run_view_type"] == "ALL"


def test_points_that_json_has_as_text_are_numbers_in_one_order(scripted) -> None:
    store, seen = scripted
    found = store.points("r1")
    assert [(point.name, repr(point.value), point.at_ms, point.step) for point in found] == [
        ("loss", "2.0", 5, 0),
        ("loss", "-inf", 6, 0),
        ("loss", "inf", 6, 0),
        ("loss", "nan", 7, 0),
    ]
    assert [asked.get("page_token") for route, asked in seen if route == "metrics/get-history"] == [None, "1", "2", "3"]


def test_the_registry_is_read_in_pages_and_a_quote_in_a_name_cannot_end_the_filter(scripted) -> None:
    store, seen = scripted
    assert [(each.name, each.description, dict(each.tags), dict(each.aliases)) for each in store.registered()] == [
        ("it's", "", {}, {"best": 3}),
        ("b", "d", {"k": ""}, {}),
    ]
    assert [(each.number, each.stage, each.status) for each in store.versions("it's")] == [(3, "None", "READY"), (10, "Staging", "READY")]
    assert seen[-1][1]["filter"] == r"name='it\'s'"


def test_files_behind_the_proxy_have_their_names_and_bytes(scripted, tmp_path: Path) -> None:
    store, _ = scripted
    run = next(iter(store.runs("2")))
    for name in ("a b#c?.txt", "model/w.bin"):
        store.fetch(run, name, tmp_path / "out" / name)
        assert (tmp_path / "out" / name).read_bytes() == Scripted.FILES[f"1/r1/artifacts/{name}"]
    with pytest.raises(DataError, match="refused: 404 there is no such file"):
        store.fetch(run, "gone", tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_version_behind_the_proxy_is_brought_whole(scripted, tmp_path: Path) -> None:
    store, _ = scripted
    assert store.fetch_version(RegisteredVersion("it's", 3), tmp_path / "v") == ["a b#c?.txt", "model/w.bin"]
    assert (tmp_path / "v" / "model" / "w.bin").stat().st_size == 256 * 999


def test_a_page_for_people_is_no_answer(scripted) -> None:
    store, _ = scripted
    with pytest.raises(DataError, match=r"does not speak MLflow's API .*artifacts/list"):
        store.artifacts(Run("r1", "2", "first"))


def test_files_on_the_servers_own_disk_are_named_with_what_to_do(scripted, tmp_path: Path) -> None:
    store, _ = scripted
    with pytest.raises(DataError, match=r"cannot be read from here .*Fix: start the server with --serve-artifacts"):
        store.fetch(Run("r1", "2", "x", artifact_uri=str(tmp_path / "nowhere")), "a", tmp_path / "a")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a").write_text("here")
    store.fetch(Run("r1", "2", "x", artifact_uri=(tmp_path / "shared").as_uri()), "a", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "here"


def test_a_server_that_is_gone_is_one_clear_error_also_for_files(tmp_path: Path) -> None:
    with closing(RestStore("http://127.0.0.1:9")) as store, pytest.raises(DataError, match="does not answer"):
        store.fetch(Run("r1", "2", "x", artifact_uri="mlflow-artifacts:/1/r1"), "a", tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("mlflow-artifacts:/1/r/artifacts", "1/r/artifacts"),
        ("mlflow-artifacts://host:5000/1/r/artifacts/", "1/r/artifacts"),
        ("mlflow-artifacts:///1/r", "1/r"),
        ("mlflow-artifacts:", ""),
    ],
)
def test_a_place_behind_the_proxy_is_its_path_with_or_without_a_host(place: str, path: str) -> None:
    assert proxied(place) == path


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("http://host:5000/", "http://host:5000"),
        ("https://host/base/", "https://host/base"),
        ("http://ann@host", "http://host"),
        ("https://ann:secret@host:8443/x", "https://host:8443/x"),
    ],
)
def test_an_identity_has_no_credentials(url: str, identity: str) -> None:
    with closing(RestStore(url)) as store:
        assert store.identity == identity
