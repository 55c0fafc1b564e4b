"""The project file as text with positions: YAML in, plain values and the line of every field out.

Does not know: what a project is; `spec` gives the values their meaning and asks here where a field stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

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


class _Loader(yaml.SafeLoader):
    """Plain values only. Reads `1e-3` as YAML 1.2 does, a number, and keeps the position of a value that has no Python form."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. Raises ConstructorError with its position, also for `2013-13-45`, which looks like a date."""
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise ConstructorError(None, None, str(error), node.start_mark) from error


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))


def parse_value(text: str) -> Any:
    """The value that YAML text stands for, as in a project file. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def parse(text: str, file: str) -> Source:
    """Parse YAML text.

    Raises SpecError with the line for bad syntax, for a field that is given twice and for a file that holds no mapping.
    """
    lines: dict[FieldPath, int] = {}
    try:
        root = yaml.compose(text, Loader=_Loader)
        values = parse_value(text)
        if not isinstance(values, dict) or root is None:
            raise SpecError("the file holds no mapping", file=file, line=1, fix="begin with `project: NAME`")
        _collect(root, (), lines, file)
    except yaml.YAMLError as error:
        raise _not_yaml(error, text, file) from error
    except RecursionError as error:
        raise SpecError(
            "the file contains itself, or is nested too deep", file=file, line=1, fix="look for `*name` inside `&name`"
        ) from error
    return Source(file, values, lines)


def _not_yaml(error: yaml.YAMLError, text: str, file: str) -> SpecError:
    fix = "check the indentation, the quotes and the brackets on this line and the one before"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return SpecError(f"not valid YAML: {error.problem}", file=file, line=mark.line + 1 if mark else 1, fix=fix)
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return SpecError("not valid YAML: a control character", file=file, line=line, value=chr(error.character), fix="remove it")
    return SpecError(f"not valid YAML: {error}", file=file, line=1, fix=fix)


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
    except OSError as error:
        raise SpecError("the project file cannot be read", value=str(path), fix=f"make it a readable file ({error.strerror})") from error
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
