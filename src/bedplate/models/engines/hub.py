"""Snapshots of models by `huggingface_hub`: its cache, its endpoint (`HF_ENDPOINT`) and its token are the user's own.

Does not know: what is in a file; weights in unsafe formats are not asked for where safe ones are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from bedplate.core.errors import NotFound, Unavailable

_TRANSPORT: type[Exception] = HfHubHTTPError.__bases__[0]  # of whichever HTTP client this version of huggingface_hub brings
_SAFE = (".safetensors", ".gguf", ".onnx")
_UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.ot", "*.pkl", "*.pickle", "*.joblib", "*.py", "*.tflite")


def snapshot(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The folder of a repository at a revision (its newest for None), named by its commit; downloaded unless the cache has it.

    Raises NotFound for what the hub does not have, and Unavailable when neither hub nor cache can be asked.
    """
    try:
        listed = huggingface_hub.list_repo_files(name, revision=revision)
        ignored = list(_UNSAFE) if any(file.endswith(_SAFE) for file in listed) else None
    except (HfHubHTTPError, HFValidationError) as error:
        if getattr(getattr(error, "response", None), "status_code", 404) < 500:
            raise NotFound(f"the hub has no such model: {_line(error)}", value=name, fix="hf://ORGANIZATION/NAME[@REVISION]") from error
        ignored = None
    except (OSError, _TRANSPORT):
        ignored = list(_UNSAFE)  # no network: the cache may have what was fetched
    try:
        folder = huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=list(patterns) or None, ignore_patterns=ignored)
    except (LocalEntryNotFoundError, OSError, _TRANSPORT) as error:
        fix = "connect to the hub (HF_ENDPOINT, HF_TOKEN), or bring the folder here and write dir://"
        raise Unavailable(f"the hub cannot be asked, and its cache has no such model: {_line(error)}", value=name, fix=fix) from error
    return Path(folder)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
