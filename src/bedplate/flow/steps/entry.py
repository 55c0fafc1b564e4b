"""The user's own functions: `file.py:name`, imported from the snapshot of the code that a run recorded.

Does not know: what a function is for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from bedplate.core.errors import JobError, nearest


def load_function(entry: str) -> Callable[..., Any]:
    """The function that `file.py:name` names. Raises JobError when the file has none of that name."""
    file, _, name = entry.partition(":")
    module = importlib.import_module(".".join(PurePosixPath(file).with_suffix("").parts))
    found = getattr(module, name, None)
    if not callable(found):
        functions = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
        raise JobError(f"{file} has no function of that name", value=name, fix=nearest(name, functions))
    return found  # type: ignore[no-any-return] # a callable of the user's, checked when it is called
