"""Writes README's table of files: one line each, the first sentence of its docstring. Run it after adding, moving or renaming a module."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from bedplate.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- files -->\n", "<!-- end of files -->"


def line(path: Path) -> str:
    """The row of one module; that of a command says what the command's help says."""
    doc = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")
    found = re.match(r"(.*?[.!])(\s|$)", doc)
    sentence = (found.group(1) if found else doc).rstrip(":.")
    command = sentence.strip("`").removeprefix("bedplate ")
    if path.parent.name == "cli" and command in COMMANDS:
        sentence = f"{sentence}: {COMMANDS[command].summary}"
    return f"| `{path.relative_to(ROOT / 'src')}` | {sentence} |"


def main() -> None:
    """Replace the table in README.md."""
    files = [path for path in sorted((ROOT / "src").rglob("*.py")) if path.name != "__init__.py"]
    table = "\n".join(["| file | what it is for |", "|---|---|", *map(line, files)])
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(before + BEGIN + table + "\n" + END + rest.partition(END)[2])
    print(f"{len(files)} files")


if __name__ == "__main__":
    main()
