"""The project file as text with positions: YAML in, plain values and the line of every field out.

Does not know: what a project is; `spec` gives the values their meaning and asks here where a field stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bedplate.core.errors import SpecError

FieldPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """A parsed file: `values` as plain Python, `lines` from the path of a field to its line (1-based)."""

    file: str
    values: dict[str, Any]
    lines: dict[FieldPath, int]

    def line(self, path: FieldPath) -> int:
        """The line of a field, or of the nearest field around it that stands in the file."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 1

    def error(self, path: FieldPath, what: str, *, value: object = None, fix: str | None = None) -> SpecError:
        """An error at a field of this file."""
        field = ".".join(str(part) for part in path)
        return SpecError(what, file=self.file, line=self.line(path), field=field, value=value, fix=fix)


def parse(text: str, file: str) -> Source:
    """Parse YAML text.

    Raises SpecError with the line for bad syntax, for a field that is given twice and for a file that holds no mapping.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SpecError(
            f"not valid YAML: {error.problem}",
            file=file,
            line=mark.line + 1 if mark else 1,
            fix="check the indentation, the quotes and the brackets on this line and the one before",
        ) from error
    if not isinstance(values, dict) or root is None:
        raise SpecError("the file holds no mapping", file=file, line=1, fix="begin with `project: NAME`")
    lines: dict[FieldPath, int] = {}
    _collect(root, (), lines, file)
    return Source(file, values, lines)


def read(path: Path) -> Source:
    """Read and parse a file. Raises SpecError when it is missing or wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError(
            "there is no project file here",
            value=str(path),
            fix="run `bedplate init`, or change to the project's folder",
        ) from error
    except UnicodeDecodeError as error:
        raise SpecError("the file is not UTF-8 text", file=str(path), line=1, fix="save it as UTF-8") from error
    return parse(text, path.name)


def _collect(node: yaml.Node, path: FieldPath, lines: dict[FieldPath, int], file: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            place = (*path, str(key.value))
            if place in lines:
                raise SpecError(
                    "the field is given twice",
                    file=file,
                    line=key.start_mark.line + 1,
                    field=".".join(map(str, place)),
                    fix=f"keep one of lines {lines[place]} and {key.start_mark.line + 1}",
                )
            lines[place] = key.start_mark.line + 1
            _collect(child, place, lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _collect(child, (*path, index), lines, file)
