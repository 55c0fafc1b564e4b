"""What exists is documented: commands, settings, errors, engines, kinds of step, events, fields of the project file, and every file."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bedplate
from bedplate.cli.main import COMMANDS
from bedplate.core import errors
from bedplate.core.event import KINDS
from bedplate.core.run import FAILURES
from bedplate.core.settings import SETTINGS
from bedplate.core.spec import Declared, ProjectSpec
from bedplate.flow.tables import LAUNCHERS, WORK

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    assert f"`bedplate {command}`" in page("commands")


def test_every_setting_error_event_engine_and_step_is_documented() -> None:
    classes = [name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, errors.BedplateError)]
    for name, where in (
        *((setting, "settings") for setting in SETTINGS),
        *((error, "errors") for error in classes if error != "BedplateError"),
        *((failure, "errors") for failure in FAILURES),
        *((kind, "events") for kind in KINDS),
        *((engine, "engines") for engine in (*LAUNCHERS, *WORK)),
    ):
        assert f"`{name}`" in page(where), f"{name} is missing in docs/reference/{where}.md"


def test_every_field_of_the_project_file_is_documented() -> None:
    text = page("project-file")
    for kind in (ProjectSpec, *Declared.__subclasses__()):
        for name, field in kind.model_fields.items():
            assert f"`{field.alias or name}`" in text or f"`{field.alias or name}:" in text, f"{kind.__name__}.{name}"


def test_no_field_is_documented_that_does_not_exist() -> None:
    fields = {field.alias or name for kind in (ProjectSpec, *Declared.__subclasses__()) for name, field in kind.model_fields.items()}
    documented = set(re.findall(r"^\| `(\w+)` \|", page("project-file"), re.MULTILINE))
    assert documented <= fields


def test_the_readme_has_one_line_for_every_file() -> None:
    files = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py") if path.name != "__init__.py"}
    named = re.findall(r"^\| `(bedplate/[\w/.]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert set(named) == files
    assert len(named) == len(set(named))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bedplate.cli.main", *command.split(), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Example: bedplate" in done.stdout


def test_the_list_of_commands_names_them_all() -> None:
    done = subprocess.run([sys.executable, "-m", "bedplate.cli.main", "--help"], capture_output=True, text=True, check=True)
    for command, entry in COMMANDS.items():
        assert f"  {command} " in done.stdout
        assert entry.summary in done.stdout


def test_every_name_of_the_facade_is_documented() -> None:
    for name in bedplate.__all__:
        assert f"`{name}`" in page("python")


def test_every_public_member_of_a_training_run_is_documented() -> None:
    source = ast.parse((ROOT / "src" / "bedplate" / "train" / "context.py").read_text())
    run = next(node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "RunContext")
    members = {node.name for node in run.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}
    internal = {"feed", "preprocessing", "record", "finish", "settle"}  # what the flow and the loop call
    for name in members - internal:
        assert f"`run.{name}" in page("python"), name


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page_path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page_path.read_text()):
            if "://" not in target:
                assert (page_path.parent / target).exists(), f"{page_path.name}: {target}"
