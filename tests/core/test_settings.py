"""Settings: what the environment says, what holds without it, and what a child process is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bedplate.core.errors import SpecError
from bedplate.core.settings import (
    SETTINGS,
    Settings,
    child_environment,
    interpreter_first,
    key_headers,
    read_cache,
    read_settings,
    unproxied_loopback,
    with_environment,
)


def test_without_any_setting_all_that_outlives_a_project_is_in_the_home_folder() -> None:
    assert read_settings({}) == Settings(home=Path.home() / ".bedplate", state=None)
    assert read_settings({"BEDPLATE_HOME": "", "BEDPLATE_STATE": ""}) == read_settings({})


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BEDPLATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BEDPLATE_STATE", "~/state")
    assert read_settings() == Settings(home=tmp_path / "home", state=Path.home() / "state")


def test_the_list_of_settings_is_what_is_read() -> None:
    class Recorder(dict[str, str]):
        def get(self, key: str, default: object = None) -> None:
            asked.add(key)

    asked: set[str] = set()
    read_settings(Recorder())
    read_cache(Recorder())
    key_headers(Recorder())
    assert asked == set(SETTINGS)


def test_a_child_gets_this_environment_and_the_additions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.setenv("REPLACED", "1")
    environment = child_environment({"REPLACED": "2", "ADDED": "3"})
    script = "import os; print(os.environ['KEPT'], os.environ['REPLACED'], os.environ['ADDED'])"
    assert subprocess.check_output([sys.executable, "-c", script], env=environment, text=True).split() == ["1", "2", "3"]


def test_a_command_finds_this_interpreter_first_and_once() -> None:
    python = Path("/env/bin/python")
    assert interpreter_first(python, {"PATH": "/usr/bin:/env/bin:/bin"}) == {"PATH": "/env/bin:/usr/bin:/bin"}
    assert interpreter_first(python, {}) == {"PATH": "/env/bin"}


def test_loopback_is_added_to_what_a_proxy_leaves_alone() -> None:
    for present in ({"NO_PROXY": "intra.example"}, {"no_proxy": "intra.example"}):
        assert unproxied_loopback(present)["NO_PROXY"] == "intra.example,127.0.0.1,localhost"
    assert unproxied_loopback({})["no_proxy"] == "127.0.0.1,localhost"


def test_the_cache_of_a_node() -> None:
    assert read_cache({}) == (Path.home() / ".cache" / "bedplate" / "feed", 20_000_000_000)
    assert read_cache({"BEDPLATE_CACHE": "/nvme/feed", "BEDPLATE_CACHE_BYTES": "5000"}) == (Path("/nvme/feed"), 5000)
    with pytest.raises(SpecError, match=r"BEDPLATE_CACHE_BYTES: a limit must be a number of bytes \(got '5 GB'\)"):
        read_cache({"BEDPLATE_CACHE_BYTES": "5 GB"})


def test_variables_are_put_into_a_text() -> None:
    assert with_environment("redis://:${A_1}@${HOST}/0 $HOME {A_1}", {"A_1": "x$y", "HOST": "cache"}) == "redis://:x$y@cache/0 $HOME {A_1}"
    with pytest.raises(SpecError, match=r"is not set \(got 'NONE'\)"):
        with_environment("${NONE}", {})


def test_a_key_goes_into_the_header_that_endpoints_read() -> None:
    assert key_headers({"BEDPLATE_KEY": "bp_x"}) == {"Authorization": "Bearer bp_x"}
    assert key_headers({}) == key_headers({"BEDPLATE_KEY": ""}) == {}
