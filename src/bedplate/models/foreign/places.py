"""Where an MLflow store keeps files: folders by path or `file:` URL, and object stores; read alike.

Credentials of an object store come from its usual environment variables, which obstore reads.
Does not know: `mlflow-artifacts:` (a server proxies those, see `mlflow_rest`), runs or versions.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import unquote, urlparse

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from bedplate.core.atomic import confined
from bedplate.core.errors import DataError
from bedplate.models.foreign.records import Artifact

OBJECTS = ("s3://", "gs://", "az://")


def local_path(uri: str, base: Path) -> Path | None:
    """The folder that a path or a `file:` URL names (a relative one below `base`); None for what is no local place."""
    scheme = urlparse(uri).scheme
    if scheme == "file":
        return Path(unquote(urlparse(uri).path))
    return base / uri if not scheme else None


def listed(uri: str, base: Path) -> list[Artifact]:
    """The files below a place. None there are none. Raises DataError for a place of an unknown kind, or one that cannot be read."""
    if uri.startswith(OBJECTS):
        return _objects(uri)
    folder = _folder(uri, base)
    found = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return sorted(Artifact(path.relative_to(folder).as_posix(), path.stat().st_size) for path in found)


def fetched(uri: str, base: Path, name: str, target: Path) -> None:
    """Write the file `name` below a place to `target`. Raises DataError when it cannot be read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not uri.startswith(OBJECTS):
        shutil.copyfile(confined(_folder(uri, base), name), target)
        return
    try:
        with target.open("wb") as file:
            for chunk in obstore.get(from_url(uri), name).stream(min_chunk_size=4 << 20):
                file.write(chunk)
    except (BaseError, OSError) as error:
        raise _unreadable(uri, error) from error


def _objects(uri: str) -> list[Artifact]:
    try:
        found = [each for page in obstore.list(from_url(uri)) for each in page]
    except (BaseError, OSError, ValueError) as error:
        raise _unreadable(uri, error) from error
    return sorted(Artifact(str(each["path"]), int(each["size"])) for each in found)


def _folder(uri: str, base: Path) -> Path:
    folder = local_path(uri, base)
    if folder is None:
        raise DataError(
            "files of this kind of place cannot be read here", value=uri, fix="name the server by its URL: it gives them itself"
        )
    return folder


def _unreadable(uri: str, error: BaseException) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return DataError(f"the place cannot be read: {reason}", value=uri, fix="check its address and the credentials in the environment")
