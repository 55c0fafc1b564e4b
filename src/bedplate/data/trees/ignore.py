"""`.dvcignore`: which paths a tree leaves out, in gitignore's language.

Source: gitignore(5), as DVC reads it; `.git`, `.hg` and `.dvc` are always left out.
Does not know: files; it is asked about names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ALWAYS = frozenset({".git", ".hg", ".dvc"})
FILE = ".dvcignore"


@dataclass(frozen=True)
class Rule:
    """One line: paths below `base` ("" is the root, otherwise it ends with `/`) that match are left out, or taken in again."""

    base: str
    pattern: re.Pattern[str]
    again: bool
    folders_only: bool

    def matches(self, path: str, is_folder: bool) -> bool:
        """Whether the line speaks of that path, relative to the root."""
        if not path.startswith(self.base) or (self.folders_only and not is_folder):
            return False
        return self.pattern.fullmatch(path, len(self.base)) is not None


def rules(text: str, base: str = "") -> list[Rule]:
    """The rules of one file that lies in the folder `base`."""
    found = [_rule(line, base) for line in text.splitlines()]
    return [rule for rule in found if rule is not None]


def ignores(known: list[Rule], path: str, is_folder: bool) -> bool:
    """Whether a path is left out: the last rule that speaks of it decides. Its folders are asked about before it."""
    if path.rpartition("/")[2] in ALWAYS:
        return True
    return next((not rule.again for rule in reversed(known) if rule.matches(path, is_folder)), False)


def _rule(line: str, base: str) -> Rule | None:
    line = re.sub(r"(?<!\\)\s+$", "", line)
    if not line or line.startswith("#"):
        return None
    again = line.startswith("!")
    line = line[again:]
    body = line.strip("/") if line.endswith("/") else line.lstrip("/")
    if not body:
        return None
    anywhere = "" if "/" in line.rstrip("/") else "(?:.*/)?"
    try:
        pattern = re.compile(anywhere + _expression(body), re.DOTALL)
    except re.error:  # `[z-a]` matches nothing, in git too
        return None
    return Rule(base, pattern, again, line.endswith("/"))


_TOKENS = re.compile(
    r"(?P<deep>(?:(?<=/)|^)\*\*/)|(?P<rest>(?<=/)\*\*$)|(?P<set>\[[!^]?\]?[^\]]*\])"
    r"|(?P<star>\*+)|(?P<one>\?)|\\(?P<quoted>.)"
)


def _expression(body: str) -> str:
    parts, end = [], 0
    for token in _TOKENS.finditer(body):
        parts.append(re.escape(body[end : token.start()]))
        end = token.end()
        parts.append(_part(token))
    return "".join([*parts, re.escape(body[end:])])


def _part(token: re.Match[str]) -> str:
    if token["set"] is not None:
        inner = token["set"][1:-1].replace("\\", "\\\\")
        return f"(?!/)[{'^' + inner[1:] if inner[0] in '!^' else inner}]"
    if token["quoted"] is not None:
        return re.escape(token["quoted"])
    return {"deep": "(?:.*/)?", "rest": ".+", "star": "[^/]*", "one": "[^/]"}[str(token.lastgroup)]
