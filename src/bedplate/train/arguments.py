"""The arguments of a user's function: its own defaults, with the project's parameters on top.

Does not know: torch, or what the function does with them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from bedplate.core.errors import JobError, nearest


def call_arguments(function: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments for `function(run, ...)`.

    `seed` is taken by the run context and needs no parameter; a function that takes the run alone reads `run.params`.
    Raises JobError for a parameter that the function does not take, or that it needs and nobody gave.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    named = {each.name: each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    for name in params:
        if parameters and not takes_any and name not in named and name != "seed":
            raise JobError(f"{function.__name__} takes no such parameter", value=name, fix=nearest(name, named))
    arguments = {name: each.default for name, each in named.items() if each.default is not each.empty}
    arguments.update({name: value for name, value in params.items() if name in named or (takes_any and name != "seed")})
    missing = sorted(set(named) - set(arguments))
    if missing:
        raise JobError(f"{function.__name__} needs a parameter", value=missing[0], fix=f"add `{missing[0]}` to the job's params")
    return arguments
