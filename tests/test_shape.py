"""The budgets of taste: sizes, layers, cycles, environment, docstrings, and that tests mirror the code."""

from __future__ import annotations

import ast
import math
import re
import statistics
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "bedplate"
TREES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}
MODULES = {".".join(("bedplate", *Path(name).with_suffix("").parts)).removesuffix(".__init__"): name for name in TREES}

LAYERS = [
    {"core"},
    {"hardware", "cluster", "data", "train", "models", "serve", "policy", "security", "iac"},
    {"flow"},
    {"cli", "console"},
    {"bedplate"},  # the facade
]
CORE_LIBRARIES = {"pydantic", "yaml", "blake3", "cryptography"}
ENGINE_LIBRARIES = {"ray", "kubernetes", "pyspark", "confluent_kafka", "vllm", "dask", "sky"}

# Where else than in core/settings.py the environment is read or set, and why.
ENVIRONMENT = {
    "core/settings.py": "the one place where settings are read",
    "train/distributed.py": "a rank is told by torchrun's environment where to meet the others",
    "train/forking.py": "torchrun's environment of a rank is set here, in the process that becomes it",
}

# Modules whose tests are not in the file that mirrors them: where those are.
TESTED_ELSEWHERE: dict[str, str] = {
    "data/online/protocol.py": "by the suite that every database passes: tests/data/engines/test_conformance.py",
    "cli/ci_comment.py": "by the steps of the rendered pipelines: tests/cli/test_ci_init.py",
    "cli/ci_mark.py": "by the steps of the rendered pipelines: tests/cli/test_ci_init.py",
    "cli/ci_back.py": "by the steps of the rendered pipelines: tests/cli/test_ci_init.py",
    "cli/ci_canary.py": "by the steps of the rendered pipelines: tests/cli/test_ci_init.py",
    "cli/keys_list.py": "with the other commands on keys: tests/cli/test_keys_add.py",
    "cli/keys_revoke.py": "with the other commands on keys: tests/cli/test_keys_add.py",
    "cli/pools_refresh.py": "with the other commands on pools: tests/cli/test_pools.py",
    "cli/cost.py": "with the commands on pools, whose prices it needs: tests/cli/test_pools.py",
    "cli/offers_view.py": "below a plan: tests/cli/test_pools.py",
    "cluster/remote_host.py": "with real hosts: tests/cluster/test_ssh.py",
    "flow/auditing.py": "through its command, on ledgers that were tampered with: tests/cli/test_audit_verify.py",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def percentile(values: list[int], part: float) -> int:
    """The smallest value that at least `part` of all values do not exceed (nearest rank)."""
    return sorted(values)[math.ceil(part * len(values)) - 1]


def room(module: str) -> str:
    """The folder below `bedplate` that a module belongs to; the facade is a room of its own."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "bedplate"


def functions(tree: ast.Module) -> Iterator[tuple[Function, bool]]:
    """Every function, and whether it is a method with a `self` or `cls`."""
    methods = {
        node
        for kind in ast.walk(tree)
        if isinstance(kind, ast.ClassDef)
        for node in kind.body
        if isinstance(node, Function) and not any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
    }
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node, node in methods


def sizes() -> dict[str, int]:
    """Lines of every function, its signature and docstring included."""
    return {
        f"{name}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for name, tree in TREES.items()
        for node, _ in functions(tree)
    }


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements below a node, but for those that only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif is_type_checking(child):
            assert isinstance(child, ast.If)
            for other in child.orelse:
                yield from imports(ast.Module([other], []))
        else:
            yield from imports(child)


def imported(statement: ast.Import | ast.ImportFrom, name: str) -> set[str]:
    """The full names of the modules that a statement in file `name` imports."""
    if isinstance(statement, ast.Import):
        return {alias.name for alias in statement.names}
    package = list(Path("bedplate", name).parent.parts)
    base = package[: len(package) - statement.level + 1] if statement.level else []
    module = ".".join([*base, *([statement.module] if statement.module else [])])
    return {f"{module}.{alias.name}" if f"{module}.{alias.name}" in MODULES else module for alias in statement.names}


def edges() -> dict[str, set[str]]:
    """Every module with the modules, ours and others', that it imports."""
    return {
        module: {target for statement in imports(TREES[name]) for target in imported(statement, name)} for module, name in MODULES.items()
    }


EDGES = edges()
OURS = {module: {target for target in targets if target.split(".")[0] == "bedplate"} for module, targets in EDGES.items()}


# -- sizes ----------------------------------------------------------------------------------------------------------------------------


def test_files_are_short() -> None:
    lines = {name: len((SOURCE / name).read_text().splitlines()) for name in TREES}
    assert statistics.median(lines.values()) <= 200
    assert percentile(list(lines.values()), 0.95) <= 600
    assert {name: count for name, count in lines.items() if count > 900} == {}


def test_functions_are_short() -> None:
    lines = sizes()
    assert {where: count for where, count in lines.items() if count > 70} == {}
    long = sorted(((count, where) for where, count in lines.items() if count > 45), reverse=True)
    assert percentile(list(lines.values()), 0.95) <= 45, long


def test_functions_take_at_most_eight_parameters() -> None:
    offenders = {}
    for name, tree in TREES.items():
        for node, method in functions(tree):
            given = node.args
            count = len([*given.posonlyargs, *given.args, *given.kwonlyargs]) + bool(given.vararg) + bool(given.kwarg) - method
            if count > 8:
                offenders[f"{name}:{node.lineno} {node.name}"] = count
    assert offenders == {}


# -- who may import whom --------------------------------------------------------------------------------------------------------------


def test_every_room_has_its_layer() -> None:
    assert {room(module) for module in MODULES} <= set().union(*LAYERS)


def test_our_modules_import_what_exists() -> None:
    unknown = {(module, target) for module, targets in OURS.items() for target in targets if target not in MODULES}
    assert unknown == set()


def test_imports_go_down_and_rooms_do_not_know_one_another() -> None:
    layer = {name: number for number, names in enumerate(LAYERS) for name in names}
    offenders = {
        (module, target)
        for module, targets in OURS.items()
        for target in targets
        if room(module) != room(target) and layer[room(module)] <= layer[room(target)]
    }
    assert offenders == set()


def test_no_cycles_between_modules() -> None:
    assert_acyclic(OURS)


def test_no_cycles_between_rooms() -> None:
    rooms: dict[str, set[str]] = {}
    for module, targets in OURS.items():
        rooms.setdefault(room(module), set()).update({room(target) for target in targets} - {room(module)})
    assert_acyclic(rooms)


def assert_acyclic(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_function_imports_our_own_modules() -> None:
    offenders = {
        f"{name}:{statement.lineno}"
        for name, tree in TREES.items()
        for node, _ in functions(tree)
        for statement in imports(node)
        if any(target.split(".")[0] == "bedplate" for target in imported(statement, name))
    }
    assert offenders == set()


def outside(module: str) -> set[str]:
    """The packages from elsewhere that a module imports."""
    return {target.split(".")[0] for target in EDGES[module]} - {"bedplate"}


def test_the_core_knows_no_engine_library() -> None:
    import sys

    found = set().union(*(outside(module) for module in MODULES if room(module) == "core"))
    assert found - sys.stdlib_module_names - CORE_LIBRARIES == set()


def test_engine_libraries_are_imported_in_engines_and_runtimes_only() -> None:
    apart = {"engines", "runtimes"}
    offenders = {
        (name, library)
        for module, name in MODULES.items()
        for library in outside(module)
        if (library in ENGINE_LIBRARIES and not apart & set(Path(name).parts))
        or (library == "torch" and room(module) != "train" and not apart & set(Path(name).parts))
    }
    assert offenders == set()


# -- the environment ------------------------------------------------------------------------------------------------------------------


def reads_environment(node: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    if isinstance(node, ast.Attribute):
        return node.attr in names and isinstance(node.value, ast.Name) and node.value.id == "os"
    return isinstance(node, ast.ImportFrom) and node.module == "os" and bool(names & {alias.name for alias in node.names})


def test_the_environment_is_read_in_one_file() -> None:
    found = {name for name, tree in TREES.items() if any(reads_environment(node) for node in ast.walk(tree))}
    assert found - set(ENVIRONMENT) == set()
    assert set(ENVIRONMENT) - found == set(), "the list names files that need not be on it"
    assert all(len(reason.split()) > 3 for reason in ENVIRONMENT.values())


# -- what modules say of themselves ---------------------------------------------------------------------------------------------------


def test_every_module_says_what_it_is_for_and_what_it_does_not_know() -> None:
    offenders = []
    for name, tree in TREES.items():
        text = ast.get_docstring(tree) or ""
        if len(re.findall(r"[.!?](?:\s|$)", text)) < 2 or "not know" not in text.lower():
            offenders.append(name)
    assert offenders == []


def test_every_public_name_says_what_it_does() -> None:
    offenders = []
    for name, tree in TREES.items():
        for node in public(tree):
            if ast.get_docstring(node) is None:
                offenders.append(f"{name}:{node.lineno} {node.name}")
    assert offenders == []


def public(tree: ast.Module) -> Iterator[Function | ast.ClassDef]:
    """Public classes and functions of a module, and the public methods of public classes."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, Function) and not inner.name.startswith("_"):
                        yield inner


def test_nothing_is_called_by_what_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    assert {name for name in TREES if empty & {part.removesuffix(".py") for part in Path(name).parts}} == set()


# -- tests ----------------------------------------------------------------------------------------------------------------------------


def mirrors(name: str) -> bool:
    """Whether a test file mirrors the module: in its room's folder of tests, or in the same folder below that."""
    path = Path(name)
    test = f"test_{path.stem}.py"
    return (TESTS / path.parent / test).is_file() or (TESTS / path.parts[0] / test).is_file()


def test_tests_mirror_modules() -> None:
    modules = {name for name in TREES if Path(name).name != "__init__.py"}
    assert sorted(name for name in modules - set(TESTED_ELSEWHERE) if not mirrors(name)) == []


def test_what_is_tested_elsewhere_is_tested_there() -> None:
    for name, where in TESTED_ELSEWHERE.items():
        assert name in TREES, f"{name} is not there any more"
        assert not mirrors(name), f"{name} need not be on the list any more"
        named = re.findall(r"tests/[\w/]+\.py", where)
        assert named, f"{name}: the reason names no test file"
        assert all((TESTS.parent / path).is_file() for path in named), where


def test_tests_are_neither_too_few_nor_too_many() -> None:
    code = sum(filled(SOURCE / name) for name in TREES)
    tests = sum(filled(path) for path in TESTS.rglob("*.py"))
    assert 1.0 <= tests / code <= 1.6, f"{tests} lines of tests for {code} lines of code"


def filled(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text().splitlines())
