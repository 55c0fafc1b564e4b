"""The code of a step: the import closure of its entry files inside the project, declared globs, and the packages that it imports.

A snapshot of exactly these files is what a run executes, so what ran is what is recorded.
Does not know: imports made by string at run time, or files opened by path: those are what `code:` globs are for.
"""

from __future__ import annotations

import ast
import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.core.digest import digest, digest_bytes, digest_file, digest_files
from bedplate.core.errors import SpecError


@dataclass(frozen=True)
class Closure:
    """Code of a step: `files` relative to the project, their common `digest`, and the third-party `packages` with versions."""

    files: tuple[str, ...]
    digest: str
    packages: tuple[tuple[str, str], ...]


def closure(root: Path, entries: Iterable[str], globs: Iterable[str]) -> Closure:
    """The closure of `entries` and `globs` in project `root`. Raises SpecError when an entry is missing or is not Python."""
    files: set[str] = set()
    imported: set[str] = set()
    queue = list(entries)
    while queue:
        name = queue.pop()
        if name not in files:
            files.add(name)
            inside, outside = _imports(root, name)
            queue.extend(inside)
            imported |= outside
    for pattern in globs:
        files |= {path.relative_to(root).as_posix() for path in root.glob(pattern) if path.is_file()}
    return Closure(tuple(sorted(files)), digest_files(root, files), _packages(imported))


def _imports(root: Path, name: str) -> tuple[set[str], set[str]]:
    path = root / name
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise SpecError("a file of code is missing", value=name, fix=f"create it in {root}, or correct its name") from error
    except SyntaxError as error:
        raise SpecError(f"{name}:{error.lineno}: not valid Python: {error.msg}", fix="correct this line") from error
    inside: set[str] = set()
    outside: set[str] = set()
    for node in ast.walk(tree):
        for module in _modules(node, name):
            found = _in_project(root, module)
            inside |= set(found)
            if not found:
                outside.add(module.partition(".")[0])
    return inside, outside


def _modules(node: ast.AST, name: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = ".".join(Path(name).parent.parts[: len(Path(name).parent.parts) - (node.level - 1)]) if node.level else ""
        base = ".".join(part for part in (package, node.module or "") if part)
        return [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else [alias.name for alias in node.names]
    return []


def _in_project(root: Path, module: str) -> list[str]:
    parts = module.split(".")
    found = []
    for end in range(1, len(parts) + 1):
        place = Path(*parts[:end])
        for candidate in (place.with_suffix(".py"), place / "__init__.py"):
            if (root / candidate).is_file():
                found.append(candidate.as_posix())
    return found


def _packages(imported: Iterable[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for module in sorted(set(imported) - set(sys.stdlib_module_names) - {"bedplate", ""}):
        for distribution in _distributions(module):
            found[distribution] = importlib.metadata.version(distribution)
    return tuple(sorted(found.items()))


def _distributions(module: str) -> list[str]:
    try:
        importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.packages_distributions().get(module, [])
    return [module]


def snapshot(root: Path, store: Path, code: Closure) -> dict[str, Any]:
    """Copy the closure's files to `store/DIGEST`, once, and return what lineage says of the code.

    `commit` is that of the git work tree around the project, `dirty` the digest of its uncommitted diff, which is kept beside.
    """
    target = store / code.digest
    digests = {name: digest_file(root / name) for name in code.files}
    facts = {"snapshot": code.digest, "files": list(code.files), "digests": digests, **_git(root, store)}
    if not target.exists():
        beside = store / f".{code.digest}.{digest([str(target), id(facts)])[:8]}.tmp"
        beside.mkdir(parents=True)
        for name in code.files:
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, beside / name)
        try:
            beside.rename(target)
        except OSError:  # another process made the same snapshot first
            shutil.rmtree(beside)
    return facts


def _git(root: Path, store: Path) -> dict[str, Any]:
    commit = _run_git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    diff = _run_git(root, "diff", "HEAD", "--", ".") or b""
    if not diff:
        return {"commit": commit.decode().strip(), "dirty": None}
    name = digest_bytes(diff)
    if not (store / f"{name}.diff").exists():
        write_json(store / f"{name}.diff", diff.decode(errors="replace"))
    return {"commit": commit.decode().strip(), "dirty": name}


def _run_git(root: Path, *words: str) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, timeout=20, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
