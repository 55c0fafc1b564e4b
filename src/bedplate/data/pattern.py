"""Patterns of files: which of them a source such as `text/**/*.py` names. Standard library only, because planning asks too.

Does not know: what is in the files (`source_text`).
"""

from __future__ import annotations

from pathlib import Path, PurePath


def is_pattern(path: PurePath) -> bool:
    """Whether a path has wildcards (`*`, `?`, `[...]`)."""
    return any(set("*?[") & set(part) for part in path.parts)


def matching(pattern: Path) -> tuple[Path, list[str]]:
    """The folder before the first wildcard, and the files below it that match, sorted. Links that lead outside of it are left out."""
    parts = pattern.parts
    first = next(place for place, part in enumerate(parts) if set("*?[") & set(part))
    base = Path(*parts[:first]).resolve()
    found = (path for path in base.glob(str(Path(*parts[first:]))) if path.is_file() and path.resolve().is_relative_to(base))
    return base, sorted(path.relative_to(base).as_posix() for path in found)
