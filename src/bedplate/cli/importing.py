"""What commands that import print: progress on a terminal, and what was brought and what was not.

Does not know: what is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from bedplate.cli.command import show
from bedplate.flow.importing import Brought


def tell(as_json: bool) -> Callable[[str], None]:
    """A callback for progress: a line on standard error that the next one replaces, on a terminal only."""
    if as_json or not sys.stderr.isatty():
        return lambda _: None
    return lambda text: typer.echo(f"\r\x1b[2K{text[:100]}", nl=False, err=True)


def show_brought(brought: Brought, place: str, as_json: bool) -> None:
    """The end of an import."""
    new = f"{brought.runs} runs with {brought.points} points and {brought.files} files, {brought.versions} versions of models"
    lines = [f"{place}: {new}; {brought.known} were here already", *(f"not brought: {each}" for each in brought.left)]
    show(brought.to_json(), "\n".join(lines), as_json)
