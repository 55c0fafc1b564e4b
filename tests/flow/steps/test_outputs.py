"""What a job made: declared outputs and artifacts, found when it has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.clock import SystemClock
from bedplate.core.digest import digest_file
from bedplate.core.errors import BedplateError
from bedplate.data.streams.log import Log
from bedplate.flow.steps.outputs import artifacts, declared
from flow.world import attempt


def test_a_file_is_named_by_its_content_and_lies_below_the_project(tmp_path: Path) -> None:
    made = attempt(tmp_path, "make", "job", {})
    assert declared(made, "data/rows.csv") is None
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("id\n1\n")
    found = declared(made, "data/rows.csv")
    assert found is not None
    assert (found.kind, found.location, found.meta) == ("file", "data/rows.csv", {"bytes": 5})
    assert found.digest == digest_file(tmp_path / "data" / "rows.csv")
    assert declared(made, "data") is None, "a folder is no file"


@pytest.mark.parametrize("name", ["../outside.csv", "/etc/hostname"])
def test_a_path_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BedplateError, match="leads outside"):
        declared(attempt(tmp_path, "make", "job", {}), name)


def test_a_stream_is_named_by_its_identity_and_ends(tmp_path: Path) -> None:
    made = attempt(tmp_path, "make", "job", {})
    assert declared(made, "log://visits") is None
    assert not (tmp_path / ".bedplate" / "log").exists(), "looking makes no stream"
    log = Log(tmp_path / ".bedplate" / "log" / "visits", SystemClock())
    log.append([b"1"], producer="p", sequence=0)
    first = declared(made, "log://visits")
    log.append([b"2"], producer="p", sequence=1)
    second = declared(made, "log://visits")
    assert first is not None and second is not None and first.digest != second.digest
    assert (second.kind, second.location, second.meta) == ("stream", "log/visits", {"offsets": {"0": 2}, "rows": 2})


def test_artifacts_are_named_by_all_their_files_but_for_links_and_partial_uploads(tmp_path: Path) -> None:
    made = attempt(tmp_path, "make", "job", {})
    assert artifacts(made) is None
    folder = made.out / "artifacts"
    (folder / "plots").mkdir(parents=True)
    assert artifacts(made) is None, "empty folders are nothing"
    (folder / "plots" / "loss.png").write_bytes(b"png")
    (folder / "model.txt").write_text("m")
    before = artifacts(made)
    assert before is not None
    assert (before.name, before.kind, before.meta) == ("make.artifacts", "files", {"files": 2, "bytes": 4})
    assert before.location == "runs/make-1/1/out/artifacts"
    (folder / ".upload.12ab.tmp").write_text("cut sh")
    (folder / "link").symlink_to("/etc/hostname")
    assert artifacts(made) == before
    (folder / "plots" / "loss.png").rename(folder / "plots" / "gain.png")
    renamed = artifacts(made)
    assert renamed is not None and renamed.digest != before.digest, "names count"
