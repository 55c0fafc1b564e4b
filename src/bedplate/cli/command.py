"""One command: its options parsed by typer, its project opened, its result printed for people or as JSON.

Does not know: which commands there are.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

ProjectFolder = Annotated[Path, typer.Option("--project", "-C", help="the project's folder", show_default="the current folder")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def run_command(function: Callable[..., Any], name: str, words: Sequence[str]) -> int:
    """Parse `words` for `function` and call it; returns its exit code (None counts as 0)."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name)(function)
    try:
        result = app(args=list(words), prog_name=f"bedplate {name}", standalone_mode=False)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.Abort:
        return 130
    except SystemExit as ended:
        return int(ended.code or 0)
    except Exception as error:
        shown = getattr(error, "format_message", None)  # typer's usage errors carry their own text
        if shown is None:
            raise
        what, fix = shown().rstrip("."), f"see `bedplate {name} --help`"
        if "--json" in words:
            typer.echo(json.dumps({"error": {"what": what, "value": None, "fix": fix}}))
        typer.echo(f"error: {what}; {fix}", err=True)
        return 2
    return int(result or 0)


def show(value: Any, text: str, as_json: bool) -> None:
    """Print `text` for people, or `value` as JSON."""
    typer.echo(json.dumps(value, indent=1, default=str) if as_json else text)


def command_line(name: str, words: Sequence[str], options: Mapping[str, Sequence[str] | None]) -> str:
    """The command as a person would type it again."""
    pairs = [part for option, values in options.items() for value in values or () for part in (option, value)]
    return shlex.join(["bedplate", name, *words, *pairs])


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A plain table with aligned columns; the last column is not padded."""
    cells = [tuple(map(str, row)) for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """`["a=1", "b=2"]` as a mapping. Raises typer.BadParameter for one without `=`."""
    for pair in pairs:
        if "=" not in pair:
            raise typer.BadParameter(f"{option} wants NAME=VALUE, not {pair!r}")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
