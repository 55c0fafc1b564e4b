"""Settings from the environment: the only module that reads environment variables.

`SETTINGS` is the whole list; the reference page is tested against it.
Does not know: the project file (that is `spec`) or command-line options.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bedplate.core.errors import SpecError

SETTINGS: Mapping[str, str] = {
    "BEDPLATE_HOME": "folder of what outlives a project: the signing key and copies of signed heads (default ~/.bedplate)",
    "BEDPLATE_CACHE": "folder on this node's own disk through which shards of a store are read (default ~/.cache/bedplate/feed)",
    "BEDPLATE_CACHE_BYTES": "what that folder may take, in bytes (default 20000000000)",
    "BEDPLATE_KEY": "the API key with which `ask` and `ci canary` ask an endpoint that requires one",
    "BEDPLATE_STATE": "folder of a project's state (default .bedplate beside bedplate.yaml)",
}


@dataclass(frozen=True)
class Settings:
    """What the environment says. `home` holds keys and head copies; `state` overrides a project's state folder."""

    home: Path
    state: Path | None


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings of this process, or of the given environment."""
    values = os.environ if environment is None else environment
    home = values.get("BEDPLATE_HOME")
    state = values.get("BEDPLATE_STATE")
    return Settings(
        home=Path(home).expanduser() if home else Path.home() / ".bedplate",
        state=Path(state).expanduser() if state else None,
    )


def key_headers(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The header that carries this user's API key; none without one."""
    key = (os.environ if environment is None else environment).get("BEDPLATE_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def read_cache(environment: Mapping[str, str] | None = None) -> tuple[Path, int]:
    """The node's cache for shards, and what it may take in bytes. Raises SpecError for a limit that is no number."""
    values = os.environ if environment is None else environment
    folder, limit = values.get("BEDPLATE_CACHE"), values.get("BEDPLATE_CACHE_BYTES") or "20000000000"
    if not limit.isdecimal():
        raise SpecError("a limit must be a number of bytes", field="BEDPLATE_CACHE_BYTES", value=limit, fix="for example 20000000000")
    return Path(folder).expanduser() if folder else Path.home() / ".cache" / "bedplate" / "feed", int(limit)


def unproxied_loopback(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """`NO_PROXY` with loopback added, so that a client behind a proxy still speaks to a server on this machine."""
    values = os.environ if environment is None else environment
    present = values.get("NO_PROXY", values.get("no_proxy", ""))
    joined = ",".join(part for part in (present, "127.0.0.1", "localhost") if part)
    return {"NO_PROXY": joined, "no_proxy": joined}


def interpreter_first(interpreter: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """`PATH` led by the folder of `interpreter`, so that `python` in a command is the one whose packages the run recorded."""
    values = os.environ if environment is None else environment
    present = values.get("PATH", "").split(os.pathsep)
    folder = str(interpreter.parent)
    return {"PATH": os.pathsep.join([folder, *(part for part in present if part and part != folder)])}


def with_environment(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` with each `${NAME}` replaced by that variable. Raises SpecError for one that is not set."""
    values = os.environ if environment is None else environment

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise SpecError("an environment variable that the project names is not set", value=found[1], fix=f"export {found[1]}=...")
        return values[found[1]]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, text)


def child_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child process: this one's, with `additions` on top."""
    return {**os.environ, **additions}
