"""`bedplate init`: a first project file, around a script that is there or from a small template.

Does not know: what the user will make of it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, show
from bedplate.core.atomic import write_bytes
from bedplate.core.errors import BedplateError, NotFound, nearest
from bedplate.core.project import PROJECT_FILE
from bedplate.core.source import parse_value

PROJECT = """\
# What this project is made of. Reference: docs/reference/project-file.md
project: {name}

jobs:
  {job}:
    {entry}
    params: {params}
"""

HELLO = '''\
"""A first job: `bedplate run hello` calls `hello`, `bedplate run hello --set name=you` changes its parameter."""


def hello(run, name="world"):
    print(f"hello {name}")
    run.log(letters=len(name))
'''

NAME_LENGTH = 63
TEMPLATES: Mapping[str, str] = {"finetune": "tune"}  # with the job to run first
RUNNERS: Mapping[str, str] = {".py": "python", ".sh": "sh", ".R": "Rscript"}


def init(
    folder: Annotated[Path, typer.Argument(help="the folder of the project")] = Path(),
    script: Annotated[str | None, typer.Option("--around", help="a script that is there: it becomes a job, unchanged")] = None,
    template: Annotated[str | None, typer.Option(help="a larger beginning: finetune")] = None,
    as_json: AsJson = False,
) -> None:
    """Begin a project: a small template, or a job around a script that you have.

    Example: bedplate init my-project, or bedplate init --around train.py, or bedplate init tuned --template finetune
    """
    if folder.exists() and not folder.is_dir():
        raise BedplateError("a project needs a folder", value=str(folder), fix="name another, or none for the current one")
    target = folder / PROJECT_FILE
    if target.exists():
        raise BedplateError("there is a project already", value=str(target), fix="edit it, or name another folder")
    name = _name(folder.resolve().name, "project")
    made = [str(target)]
    if template is not None:
        job, text, more = _from_template(folder, template)
        text, made = text.replace("{name}", name), [*made, *more]
    elif script is not None:
        job = _name(Path(script).stem, "job")
        text = PROJECT.format(name=name, job=job, entry=_entry(folder, script), params="{}")
    else:
        job = "hello"
        folder.mkdir(parents=True, exist_ok=True)
        text = PROJECT.format(name=name, job=job, entry="function: hello.py:hello", params="{name: world}")
        if not (folder / "hello.py").exists():
            write_bytes(folder / "hello.py", HELLO.encode())
            made.append(str(folder / "hello.py"))
    write_bytes(target, text.encode())
    where = "" if folder == Path() else f"cd {shlex.quote(str(folder))}\n      "
    show({"made": made, "job": job}, "\n".join(f"made {path}" for path in made) + f"\n\nnext: {where}bedplate run {job}", as_json)


def _from_template(folder: Path, template: str) -> tuple[str, str, list[str]]:
    """The job that a template begins with, the text of its project file, and the other files that were written."""
    source = Path(__file__).with_name("templates") / template
    if template not in TEMPLATES:
        raise NotFound("no such template", value=template, fix=nearest(template, TEMPLATES))
    made = []
    for path in sorted(source.glob("*.txt")):
        place = folder / path.stem  # kept as text, so that nothing takes a template for a module
        if place.exists():
            raise BedplateError("there is a file of that name already", value=str(place), fix="name another folder")
        write_bytes(place, path.read_bytes())
        made.append(str(place))
    return TEMPLATES[template], (source / PROJECT_FILE).read_text(), made


def _name(text: str, otherwise: str) -> str:
    """`text` as a name that a project file takes: letters, digits, `-` and `_`, a letter first."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_") or otherwise
    is_plain = plain[0].isalpha() and parse_value(plain) == plain  # YAML takes `yes` for a truth value
    return (plain if is_plain else f"{otherwise[0]}-{plain}")[:NAME_LENGTH]


def _entry(folder: Path, script: str) -> str:
    """The lines of a job that runs the script, which is told for code: that of a Python command is found by itself."""
    path = (folder / script).resolve()
    if not path.is_file() or not path.is_relative_to(folder.resolve()):
        raise BedplateError("there is no such script in the project's folder", value=script, fix=f"name a file in {folder.resolve()}")
    inside = path.relative_to(folder.resolve()).as_posix()
    runner = RUNNERS.get(path.suffix)
    command = f"{runner} {shlex.quote(inside)}" if runner else shlex.quote(f"./{inside}")
    code = "" if path.suffix == ".py" else f"\n    code: [{_text(inside)}]"
    return f"command: {_text(command)}{code}"


def _text(text: str) -> str:
    """`text` in YAML, in quotes where YAML could read more into it."""
    return text if re.fullmatch(r"[\w./ -]+", text, re.ASCII) else json.dumps(text)
