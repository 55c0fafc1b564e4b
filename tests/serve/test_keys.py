"""API keys: shown once, kept as digests, taken back at once, held to their rate; and over HTTP, where without one nothing is answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bedplate.core.clock import SimClock
from bedplate.core.errors import BedplateError, NotFound
from bedplate.serve.asgi import Call, Refused
from bedplate.serve.fields import Field
from bedplate.serve.gateway import OPEN_PATHS, EndpointInfo, Looked, app
from bedplate.serve.keys import KeyFile, KeyGuard
from serve.replica import serving

CLOCK = SimClock(1_700_000_000.0)
INFO = EndpointInfo("prices", (Field("size", "float"),), "price@7", "ab" * 32, "fit-1", 1)


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys" / "keys.json")


def call(key: str = "", path: str = "/predict", header: bytes = b"authorization") -> Call:
    headers = [(header, (f"Bearer {key}" if header == b"authorization" else key).encode())] if key else []
    return Call({"method": "POST", "path": path, "headers": headers}, None, None)  # type: ignore[arg-type]


def test_a_key_is_shown_once_and_kept_as_a_digest(file: KeyFile, tmp_path: Path) -> None:
    text = file.add("web", 5.0, CLOCK)
    assert len(text) >= 43
    path = tmp_path / "keys" / "keys.json"
    assert text not in path.read_text() and text[3:] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    [key] = file.listed()
    assert (key.name, key.rate, key.made) == ("web", 5.0, "2023-11-14T22:13:20.000Z")


@pytest.mark.parametrize(
    ("name", "rate"), [("Web", None), ("", None), ("a" * 64, None), ("web", 0.0), ("web", -1.0), ("web", float("inf"))]
)
def test_what_is_no_key(file: KeyFile, name: str, rate: float | None) -> None:
    with pytest.raises(BedplateError):
        file.add(name, rate, CLOCK)
    assert file.listed() == []


def test_a_name_is_given_once(file: KeyFile) -> None:
    file.add("web", None, CLOCK)
    with pytest.raises(BedplateError, match="there is a key of this name"):
        file.add("web", None, CLOCK)
    with pytest.raises(NotFound, match="did you mean 'web'"):
        file.revoke("wep")


def test_a_request_gets_the_name_of_its_key(file: KeyFile) -> None:
    guard = KeyGuard(file, OPEN_PATHS, CLOCK)
    web, batch = file.add("web", None, CLOCK), file.add("batch", None, CLOCK)
    for text, name in ((web, "web"), (batch, "batch")):
        for header in (b"authorization", b"x-api-key"):
            asked = call(text, header=header)
            guard(asked)
            assert asked.caller == name
    guard(call(path="/health"))
    for wrong in ("", "bp_", web[:-1], web + "x", web.upper()):
        with pytest.raises(Refused) as caught:
            guard(call(wrong))
        assert caught.value.status == 401
        assert wrong == "" or wrong not in str(caught.value.value)


def test_a_key_that_was_taken_back_is_refused_at_once(file: KeyFile) -> None:
    guard = KeyGuard(file, OPEN_PATHS, CLOCK)
    text = file.add("web", None, CLOCK)
    guard(call(text))
    file.revoke("web")
    with pytest.raises(Refused, match="a key is needed"):
        guard(call(text))


def test_a_rate_is_held_and_comes_back_with_time(file: KeyFile) -> None:
    clock = SimClock(1000.0)
    guard = KeyGuard(file, OPEN_PATHS, clock)
    text, other = file.add("web", 4.0, clock), file.add("slow", 0.1, clock)

    def passed(key: str) -> int:
        for count in range(100):
            try:
                guard(call(key))
            except Refused as refused:
                assert refused.status == 429
                assert int(refused.headers["Retry-After"]) == (1 if key == text else 10)
                return count
        return 100

    assert [passed(text), passed(other)] == [4, 1]
    clock.sleep(0.5)
    assert passed(text) == 2
    clock.sleep(3600.0)
    assert [passed(text), passed(other)] == [4, 1]


def test_two_who_change_the_file_at_once_lose_nothing(file: KeyFile) -> None:
    threads = [threading.Thread(target=file.add, args=(f"k{n}", None, CLOCK)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(file.listed()) == 16


@pytest.fixture
def address(file: KeyFile) -> Iterator[str]:
    guard = KeyGuard(file, OPEN_PATHS)
    inner = app(INFO, lambda asked: [Looked(each) for each in asked], lambda rows: [1.0] * len(rows), lambda record: None, guard=guard)
    with serving(inner) as served:
        yield served


def test_without_a_key_nothing_but_health_is_told(file: KeyFile, address: str) -> None:
    text = file.add("web", 1.0, CLOCK)
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as http:
        for path in ("/", "/docs", "/openapi.json", "/predict", "/v2/models/price", "/nothing"):
            refused = http.get(path)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        for path in ("/health", "/v2/health/live", "/v2/health/ready"):
            assert http.get(path).status_code == 200
        http.headers["Authorization"] = f"Bearer {text}"
        assert http.post("/predict", json={"size": 2.0}).json()["prediction"] == 1.0
        refused = http.post("/predict", json={"size": 2.0})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
