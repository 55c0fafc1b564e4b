"""`.dvcignore` speaks gitignore's language: asked of git itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.data.trees.ignore import ignores, rules

PATHS = ["a", "a.tmp", "b/a", "b/a.tmp", "b/c/a", "b/c/d.txt", "[x]", "b/[x]", "c", "b/c", "#a", "!a", "é.tmp", "ab/c", "b/x y"]
LINES = [
    "*.tmp",
    "a",
    "/a",
    "b/",
    "b/*",
    "!b/a",
    "**/c",
    "b/**",
    "b/**/d.txt",
    "[ab]",
    "[!a]",
    "\\#a",
    "\\!a",
    "?",
    "# no",
    "",
    "c/",
    "/b/c",
    "x y ",
    "a\\ ",
]


def by_git(folder: Path, text: str) -> set[str]:
    (folder / ".gitignore").write_text(text)
    asked = "\0".join(PATHS)
    command = ["git", "-C", str(folder), "-c", "core.excludesFile=/dev/null", "check-ignore", "-z", "--no-index", "--stdin"]
    done = subprocess.run(command, input=asked.encode(), capture_output=True, check=False)
    return set(done.stdout.decode().split("\0")) - {""}


def by_us(text: str) -> set[str]:
    known = rules(text)

    def left_out(path: str) -> bool:
        parts = path.split("/")
        return any(ignores(known, "/".join(parts[:end]), end < len(parts)) for end in range(1, len(parts) + 1))

    return {path for path in PATHS if left_out(path)}


@pytest.fixture(scope="module", name="repository")
def _repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


@pytest.mark.parametrize("line", LINES)
def test_one_line_means_what_git_says(repository: Path, line: str) -> None:
    assert by_us(line) == by_git(repository, line)


@settings(max_examples=60)
@given(lines=st.lists(st.sampled_from(LINES), max_size=4))
def test_the_last_line_that_speaks_of_a_path_decides(repository: Path, lines: list[str]) -> None:
    assert by_us("\n".join(lines)) == by_git(repository, "\n".join(lines))


def test_a_file_speaks_of_its_own_folder_only_and_some_names_are_always_left_out() -> None:
    known = rules("/a\n*.tmp", "b/")
    assert [path for path in ("a", "b/a", "b/c/a", "x.tmp", "b/c/x.tmp") if ignores(known, path, False)] == ["b/a", "b/c/x.tmp"]
    assert ignores([], "x/.git", True)
    assert ignores([], ".dvc", True)
    assert not ignores(rules("[z-a]"), "z", False)
