"""`bedplate init`: a first project file, around a script that is there or from a small template.

Does not know: what the user will make of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, show
from bedplate.core.atomic import write_bytes
from bedplate.core.errors import BedplateError
from bedplate.core.project import PROJECT_FILE

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


def init(
    folder: Annotated[Path, typer.Argument(help="the folder of the project")] = Path(),
    script: Annotated[str | None, typer.Option("--around", help="a script that is there: it becomes a job, unchanged")] = None,
    as_json: AsJson = False,
) -> None:
    """Begin a project: a small template, or a job around a script that you have.

    Example: bedplate init my-project, or bedplate init --around train.py
    """
    target = folder / PROJECT_FILE
    if target.exists():
        raise BedplateError("there is a project already", value=str(target), fix="edit it, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-") or "project"
    name = name if name[0].isalpha() else f"p-{name}"
    made = [str(target)]
    if script is not None:
        if not (folder / script).is_file():
            raise BedplateError("there is no such script", value=script, fix=f"name a file in {folder.resolve()}")
        job = re.sub(r"[^a-z0-9_-]+", "-", Path(script).stem.lower()).strip("-") or "job"
        text = PROJECT.format(name=name, job=job, entry=f"command: python {script}", params="{}")
    else:
        job = "hello"
        text = PROJECT.format(name=name, job=job, entry="function: hello.py:hello", params="{name: world}")
        if not (folder / "hello.py").exists():
            write_bytes(folder / "hello.py", HELLO.encode())
            made.append(str(folder / "hello.py"))
    write_bytes(target, text.encode())
    where = "" if folder == Path() else f"cd {folder}\n      "
    show({"made": made, "job": job}, "\n".join(f"made {path}" for path in made) + f"\n\nnext: {where}bedplate run {job}", as_json)
