"""Patterns: which files they name."""

from __future__ import annotations

from pathlib import Path, PurePath

from bedplate.data.pattern import is_pattern, matching


def test_what_is_a_pattern() -> None:
    assert [is_pattern(PurePath(path)) for path in ("text/**/*.py", "a?.txt", "[ab].txt", "text/a.py")] == [True, True, True, False]


def test_files_below_the_first_wildcard_sorted_and_none_from_outside(tmp_path: Path) -> None:
    for name in ("text/b.py", "text/a/z.py", "text/a/b/c.py", "text/readme.md", "secret.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "text" / "link.py").symlink_to(tmp_path / "secret.py")
    (tmp_path / "text" / "folder.py").mkdir()
    base, names = matching(tmp_path / "text" / "**" / "*.py")
    assert (base, names) == (tmp_path / "text", ["a/b/c.py", "a/z.py", "b.py"])
    (tmp_path / "text" / "link.py").unlink()
    assert matching(tmp_path / "te*" / "*.py")[1] == ["text/b.py"]
    assert matching(tmp_path / "none" / "*.py")[1] == []
