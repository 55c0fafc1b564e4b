"""Options of a command from the fields of a dataclass: one field, one option.

Does not know: which commands there are, or what the fields mean.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_type_hints

import typer


def taking(kind: type, helps: Mapping[str, str], optional: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator for a command with `**values`: each field of `kind` in `helps` becomes an option `--field-name` with that help text.

    With `optional`, fields without a default may be left out, and are None then.
    """
    hints = get_type_hints(kind)

    def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True)
        kept = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        made = []
        for field in fields(kind):
            default = field.default if field.default is not MISSING else None
            hint = hints[field.name] | None if default is None and optional else hints[field.name]
            option = typer.Option(f"--{field.name.replace('_', '-')}", help=helps[field.name], show_default=default is not None)
            made.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, option]))
        signature = own.replace(parameters=[*kept, *made])
        command.__dict__["__signature__"] = signature
        command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        return command

    return with_options
