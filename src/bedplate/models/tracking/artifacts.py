"""Artifacts: files that clients hand in and fetch through this server, below one folder, in MLflow's layout.

`EXPERIMENT/RUN/artifacts/…` for runs, `EXPERIMENT/models/MODEL/artifacts/…` for logged models; `runs/RUN/…` shows what the newest attempt
of a run of bedplate's own wrote, and cannot be written to. A file appears whole or not at all. A path that leads out of its folder, also
through a link, is refused. Nothing here is ever unpickled or executed.
Does not know: sockets; an upload comes in blocks, a download is named by its path.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from bedplate.core.atomic import confined, sync
from bedplate.core.errors import BedplateError
from bedplate.models.tracking import validation
from bedplate.models.tracking.drafts import ARTIFACT_SCHEME
from bedplate.models.tracking.index import OWN_ARTIFACTS
from bedplate.models.tracking.refusal import Answer, Refused, invalid, json_answer, missing
from bedplate.models.tracking.runs import number_of, run_id_of
from bedplate.models.tracking.search import info_of
from bedplate.models.tracking.store import Tracking

Body = Mapping[str, Any]
MAX_UPLOAD_BYTES = 64 << 30
MAX_PARTS = 10_000
UPLOADS = ".uploads"
_SHOWN_AS = {".json": "application/json", ".txt": "text/plain", ".csv": "text/csv", ".png": "image/png", ".jpg": "image/jpeg"}


def checked(path: str) -> str:
    """A path below the folder of artifacts. Raises Refused for what MLflow refuses, and more: no empty part, no dots, no NUL."""
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts) or path.startswith(UPLOADS):
        raise invalid("Invalid path")
    if any(len(part.encode(errors="replace")) > 255 for part in parts):
        raise invalid("Invalid path")
    return path


def place(tracking: Tracking, path: str, *, writing: bool = False) -> Path:
    """The file that a path names. Raises Refused."""
    first, _, rest = checked(path).partition("/")
    if first == OWN_ARTIFACTS:
        if writing:
            raise Refused("PERMISSION_DENIED", "the artifacts of bedplate's own runs are written by their attempts")
        run, _, below = rest.partition("/")
        root = _attempt_artifacts(tracking, run)
    else:
        root, below = tracking.artifacts, path
    try:
        return confined(root, below)
    except BedplateError as error:
        raise invalid("Invalid path") from error


def _attempt_artifacts(tracking: Tracking, run: str) -> Path:
    tokens = [folder for folder in (tracking.attempts / run).glob("*") if folder.name.isdigit()] if run else []
    if not tokens:
        raise missing("no such artifact")
    return max(tokens, key=lambda folder: int(folder.name)) / "out" / "artifacts"


def download(tracking: Tracking, path: str) -> Answer:
    """GET mlflow-artifacts/artifacts/PATH. Never as a page that a browser would run."""
    target = place(tracking, path)
    if not target.is_file():
        raise missing("no such artifact")
    shown = _SHOWN_AS.get(target.suffix) or "application/octet-stream"
    name = "".join(each if each.isalnum() or each in "._- " else "_" for each in target.name)
    headers = (("Content-Disposition", f'attachment; filename="{name}"'), ("X-Content-Type-Options", "nosniff"))
    return Answer(200, shown, target, headers)


def listed(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET mlflow-artifacts/artifacts?path=: the files right below a folder, named as seen from there."""
    path = validation.text(body, "path", required=False).strip("/")
    return {"files": _files(place(tracking, path)) if path else []}


def of_run(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET artifacts/list: the files of a run below `path`, named as seen from the run."""
    number = number_of(tracking, run_id_of(body))
    uri = info_of(tracking.index, number)["artifact_uri"]
    return {"root_uri": uri, "files": below(tracking, uri, validation.text(body, "path", required=False))}


def below(tracking: Tracking, uri: str, path: str) -> list[dict[str, Any]]:
    """The files right below `path`, which is relative to the artifacts at `uri`; their names are, too. Raises Refused."""
    root, path = uri.removeprefix(ARTIFACT_SCHEME).strip("/"), path.rstrip("/")
    if path:
        checked(path)
    try:
        files = _files(place(tracking, f"{root}/{path}" if path else root))
    except Refused as error:
        if error.code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return []
    return [{**file, "path": str(PurePosixPath(path) / file["path"])} for file in files]


def _files(folder: Path) -> list[dict[str, Any]]:
    if not folder.is_dir():
        return []
    whole = [path for path in sorted(folder.iterdir()) if not (path.name.startswith(".") and path.name.endswith(".tmp"))]
    return [
        {"path": path.name, "is_dir": True} if path.is_dir() else {"path": path.name, "is_dir": False, "file_size": path.stat().st_size}
        for path in whole
    ]


def delete(tracking: Tracking, path: str) -> Answer:
    """DELETE mlflow-artifacts/artifacts/PATH."""
    target = place(tracking, path, writing=True)
    if target.is_dir():
        shutil.rmtree(target)
    elif target.exists():
        target.unlink()
    else:
        raise missing("no such artifact")
    return json_answer({})


class Upload:
    """A file that is being handed in, written beside its place. `finish` may take long and runs outside the event loop."""

    def __init__(self, tracking: Tracking, path: str, *, part: bool = False) -> None:
        """Begin. `path` is below the folder of artifacts; for a part it is `UPLOAD/NUMBER`. Raises Refused."""
        self._target = _part(tracking, path) if part else place(tracking, path, writing=True)
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._beside = self._target.with_name(f".{secrets.token_hex(8)}.tmp")
            self._file = self._beside.open("xb")
        except (FileExistsError, NotADirectoryError) as error:
            raise invalid(f"a file and a folder cannot have one name: {error.strerror}") from error
        self._size = 0

    def write(self, block: bytes | memoryview) -> None:
        """Take the next block. Raises Refused when it is too much."""
        self._size += len(block)
        if self._size > MAX_UPLOAD_BYTES:
            raise Refused("BAD_REQUEST", f"an artifact is larger than {MAX_UPLOAD_BYTES} bytes", 413)
        self._file.write(block)

    def finish(self) -> Answer:
        """Make the file durable and put it in its place."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._beside.replace(self._target)
        except (IsADirectoryError, NotADirectoryError) as error:
            self.abandon()
            raise invalid(f"a file and a folder cannot have one name: {error.strerror}") from error
        sync(self._target.parent)
        answer = json_answer({})
        return answer._replace(headers=(("ETag", f'"{self._target.name}"'),))

    def abandon(self) -> None:
        """Forget what came."""
        self._file.close()
        self._beside.unlink(missing_ok=True)


def _part(tracking: Tracking, path: str) -> Path:
    upload, _, number = path.partition("/")
    if not number.isdigit() or not 0 < int(number) <= MAX_PARTS or not _uploads(tracking, upload).is_dir():
        raise missing("no such multipart upload")
    return _uploads(tracking, upload) / number


def _uploads(tracking: Tracking, upload: str) -> Path:
    if len(upload) != 32 or not upload.isalnum():
        raise missing("no such multipart upload")
    return tracking.artifacts / UPLOADS / upload


def multipart_create(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST mlflow-artifacts/mpu/create/PATH: an address for each part, on this server."""
    _multipart_target(tracking, body)
    count = validation.bounded(body, "num_parts", 1, MAX_PARTS)
    upload = secrets.token_hex(16)
    _uploads(tracking, upload).mkdir(parents=True)
    address = f"{body['_address']}/api/2.0/mlflow-artifacts/mpu/part/{upload}"
    return {
        "upload_id": upload,
        "credentials": [{"url": f"{address}/{number}", "part_number": number, "headers": {}} for number in range(1, count + 1)],
    }


def multipart_complete(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST mlflow-artifacts/mpu/complete/PATH: the parts become one file."""
    target = _multipart_target(tracking, body)
    folder = _uploads(tracking, validation.text(body, "upload_id"))
    numbers = sorted(validation.number(part, "part_number", 0) for part in validation.items(body, "parts"))
    parts = [folder / str(number) for number in numbers]
    if not parts or not all(part.is_file() for part in parts):
        raise invalid("a part of the upload is missing")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{secrets.token_hex(8)}.tmp")
    with beside.open("xb") as file:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(target)
    sync(target.parent)
    shutil.rmtree(folder)
    return {}


def multipart_abort(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST mlflow-artifacts/mpu/abort/PATH."""
    folder = _uploads(tracking, validation.text(body, "upload_id"))
    if folder.is_dir():
        shutil.rmtree(folder)
    return {}


def _multipart_target(tracking: Tracking, body: Body) -> Path:
    """The file: the address names its folder, `path` the file itself, of which the client sends a local path."""
    name = PurePosixPath(validation.text(body, "path")).name
    folder = str(body["_path"]).strip("/")
    return place(tracking, f"{folder}/{name}" if PurePosixPath(folder).name != name else folder, writing=True)
