"""Artifacts: whole files, confined paths, parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.event import Draft
from bedplate.models.tracking import artifacts, routes
from bedplate.models.tracking.artifacts import Upload
from bedplate.models.tracking.refusal import Refused
from models.tracking.kit import Api

FILES = "/api/2.0/mlflow-artifacts/artifacts"


def put(api: Api, path: str, data: bytes, **part: bool) -> None:
    upload = Upload(api.tracking, path, **part)
    upload.write(data)
    upload.finish()


def get(api: Api, path: str) -> bytes:
    answer = routes.answer(api.tracking, "GET", f"{FILES}/{path}", "", b"", "")
    assert answer.status == 200, answer
    assert isinstance(answer.body, Path)
    return answer.body.read_bytes()


def test_what_is_put_is_listed_and_fetched(api: Api) -> None:
    run = api.run()
    for name in ("notes.txt", "sub/a.json", "sub/b c.bin"):
        put(api, f"0/{run}/artifacts/{name}", name.encode())
    told = api.ok("GET", "artifacts/list", run_id=run)
    assert told["root_uri"] == f"mlflow-artifacts:/0/{run}/artifacts"
    assert told["files"] == [{"path": "notes.txt", "is_dir": False, "file_size": 9}, {"path": "sub", "is_dir": True}]
    below = api.ok("GET", "artifacts/list", run_id=run, path="sub")["files"]
    assert [file["path"] for file in below] == ["sub/a.json", "sub/b c.bin"]
    direct = api.ok("GET", FILES, path=f"0/{run}/artifacts/sub")["files"]
    assert [file["path"] for file in direct] == ["a.json", "b c.bin"]
    assert get(api, f"0/{run}/artifacts/sub/a.json") == b"sub/a.json"
    assert api.ok("GET", "artifacts/list", run_id=run, path="none")["files"] == []


def test_a_download_is_no_page(api: Api) -> None:
    put(api, "0/r/artifacts/x.html", b"<script>")
    answer = artifacts.download(api.tracking, "0/r/artifacts/x.html")
    assert answer.content_type == "application/octet-stream"
    assert ("X-Content-Type-Options", "nosniff") in answer.headers
    assert dict(answer.headers)["Content-Disposition"] == 'attachment; filename="x.html"'


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "0/../../x",
        "0/./x",
        "0//x",
        "/etc/passwd",
        "",
        "0/r/",
        "0/a\0b",
        "0\\..\\x",
        "..",
        ".uploads/x",
        "0/" + "x" * 300,
        "runs/../../../etc/passwd",
    ],
)
def test_a_path_that_leads_out_is_refused(api: Api, path: str) -> None:
    with pytest.raises(Refused) as refused:
        Upload(api.tracking, path)
    assert refused.value.code in ("INVALID_PARAMETER_VALUE", "PERMISSION_DENIED")
    for method in ("GET", "DELETE"):
        answer = routes.answer(api.tracking, method, f"{FILES}/{path}", "", b"", "")
        assert answer.status in (400, 403, 404), (method, path)
    run = api.run()
    if path and path != "/":
        assert api.call("GET", "artifacts/list", run_id=run, path=path)[0] == 400 or path == "0/r/"


def test_a_link_that_leads_out_is_refused(api: Api, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("no")
    run = api.run()
    put(api, f"0/{run}/artifacts/x.txt", b"x")
    folder = api.tracking.artifacts / "0" / run / "artifacts"
    (folder / "link").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path)
    for name in ("link", "out/secret"):
        assert routes.answer(api.tracking, "GET", f"{FILES}/0/{run}/artifacts/{name}", "", b"", "").status == 400
        with pytest.raises(Refused):
            Upload(api.tracking, f"0/{run}/artifacts/{name}")
    assert secret.read_text() == "no"


def test_an_upload_that_is_not_finished_leaves_nothing(api: Api) -> None:
    upload = Upload(api.tracking, "0/r/artifacts/x.bin")
    upload.write(b"half")
    assert api.ok("GET", FILES, path="0/r/artifacts")["files"] == []
    upload.abandon()
    assert list((api.tracking.artifacts / "0" / "r" / "artifacts").iterdir()) == []


def test_an_upload_is_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_UPLOAD_BYTES", 10)
    upload = Upload(api.tracking, "0/r/x.bin")
    with pytest.raises(Refused) as refused:
        upload.write(b"x" * 11)
    assert refused.value.status == 413
    upload.abandon()


def test_a_file_and_a_folder_cannot_have_one_name(api: Api) -> None:
    put(api, "0/r/x", b"file")
    put(api, "0/r/folder/y", b"file")
    for path in ("0/r/x/y", "0/r/folder"):
        with pytest.raises(Refused):
            put(api, path, b"")
    assert get(api, "0/r/x") == b"file"


def test_deleting(api: Api) -> None:
    put(api, "0/r/artifacts/sub/x", b"1")
    for path in ("0/r/artifacts/sub/x", "0/r/artifacts/sub"):
        assert routes.answer(api.tracking, "DELETE", f"{FILES}/{path}", "", b"", "").status == 200
        assert routes.answer(api.tracking, "DELETE", f"{FILES}/{path}", "", b"", "").status == 404


def test_an_upload_in_parts(api: Api) -> None:
    where = "/api/2.0/mlflow-artifacts/mpu"
    told = api.ok("POST", f"{where}/create/0/r/artifacts", path="/home/ada/model.bin", num_parts=3)
    numbers = [credential["part_number"] for credential in told["credentials"]]
    assert numbers == [1, 2, 3]
    for credential in reversed(told["credentials"]):
        assert credential["url"].startswith("http://127.0.0.1:1/api/2.0/mlflow-artifacts/mpu/part/")
        put(api, credential["url"].partition("/part/")[2], str(credential["part_number"]).encode() * 4, part=True)
    parts = [{"part_number": number, "etag": "x"} for number in numbers]
    lacking = [*parts, {"part_number": 4}]
    assert api.refused("POST", f"{where}/complete/0/r/artifacts", path="model.bin", upload_id=told["upload_id"], parts=lacking)[0] == 400
    api.ok("POST", f"{where}/complete/0/r/artifacts", path="model.bin", upload_id=told["upload_id"], parts=parts)
    assert get(api, "0/r/artifacts/model.bin") == b"111122223333"
    assert not (api.tracking.artifacts / ".uploads" / told["upload_id"]).exists()
    again = api.ok("POST", f"{where}/create/0/r/artifacts", path="model.bin", num_parts=1)
    api.ok("POST", f"{where}/abort/0/r/artifacts", path="model.bin", upload_id=again["upload_id"])
    for wrong in ("../x/1", f"{again['upload_id']}/1", f"{told['upload_id']}/0", "x" * 32 + "/1"):
        with pytest.raises(Refused):
            Upload(api.tracking, wrong, part=True)
    assert api.refused("POST", f"{where}/create/../x", path="model.bin", num_parts=1)[0] == 400


def test_the_artifacts_of_bedplate_s_own_runs_are_read_only(api: Api) -> None:
    api.append(Draft("run.created", "train-1", {"step": "train", "kind": "job", "launch": "l", "fingerprint": "f"}))
    for token in (1, 2, 10):
        folder = api.state / "runs" / "train-1" / str(token) / "out" / "artifacts"
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text(str(token))
    assert [file["path"] for file in api.ok("GET", "artifacts/list", run_id="train-1")["files"]] == ["notes.txt"]
    assert get(api, "runs/train-1/notes.txt") == b"10"
    with pytest.raises(Refused) as refused:
        Upload(api.tracking, "runs/train-1/notes.txt")
    assert refused.value.code == "PERMISSION_DENIED"
