"""Loading by name: what is there is loaded late, what is not there is one clear line."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from bedplate.core.errors import NotFound, Unavailable
from bedplate.core.loading import Entry, load

TABLE = {
    "clock": Entry("bedplate.core.clock:SimClock", "a clock that tests move"),
    "ray": Entry("needs_ray:Engine", "Ray's own machinery", extra="ray"),
    "broken": Entry("needs_ray:Engine", "no extra would help"),
    "inner": Entry("bedplate.core.nowhere:Engine", "a mistake of ours", extra="ray"),
}


@pytest.fixture
def needs_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_ray.py").write_text("import ray_that_is_not_installed\nclass Engine: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_is_on_again_after_a_load_and_after_a_failed_one(enabled: bool, needs_ray: None) -> None:
    gc.enable() if enabled else gc.disable()
    try:
        load(TABLE, "clock", "clock")
        after = gc.isenabled()
        with pytest.raises(Unavailable):
            load(TABLE, "ray", "engine")
        assert (after, gc.isenabled()) == (enabled, enabled)
    finally:
        gc.enable()


def test_what_a_row_names() -> None:
    assert load(TABLE, "clock", "clock")(5.0).now() == 5.0


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        load(TABLE, "clocks", "engine")
    assert caught.value.one_line() == "no such engine (got 'clocks'). Fix: did you mean 'clock'?"


@pytest.mark.usefixtures("needs_ray")
def test_a_missing_extra_is_one_clear_line() -> None:
    with pytest.raises(Unavailable) as caught:
        load(TABLE, "ray", "engine")
    line = "engine 'ray' needs the package 'ray_that_is_not_installed'. Fix: pip install 'bedplate[ray]'"
    assert caught.value.one_line() == line


@pytest.mark.usefixtures("needs_ray")
@pytest.mark.parametrize("name", ["broken", "inner"])
def test_a_mistake_of_ours_is_not_blamed_on_an_extra(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        load(TABLE, name, "engine")


def test_nothing_is_imported_before_it_is_used() -> None:
    script = (
        "import sys; from bedplate.core.loading import Entry, load\n"
        "table = {'xml': Entry('xml.dom.minidom:parseString', 'late')}\n"
        "assert 'xml.dom.minidom' not in sys.modules\n"
        "load(table, 'xml', 'parser'); assert 'xml.dom.minidom' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
