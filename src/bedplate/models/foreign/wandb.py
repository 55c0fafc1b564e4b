"""Offline runs of Weights & Biases, read from their own files: no `wandb` package is needed.

A run is a log of framed records (LevelDB's log format in blocks of 32 KiB, after a header of 7 bytes; the CRC is zlib's over type and
data), each a protocol buffer (wandb/proto/wandb_internal.proto; the numbers below are its). A file that a kill cut short is read up to
there.
Nothing is lost: what has no place among params, metrics and tags is in the raw file, which is kept as an artifact.
Does not know: runs that were uploaded and are no longer on this disk.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedplate.core.errors import DataError
from bedplate.models import wire
from bedplate.models.foreign.records import Artifact, Experiment, Point, Registered, RegisteredVersion, Run

BLOCK = 32_768
_HEADER = b":W&B\xe1\xbe\x00"
_FRAME = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _SUMMARY, _CONFIG, _STATS, _ARTIFACT, _RUN, _EXIT = 2, 3, 5, 7, 8, 17, 18
_OWN = ("_step", "_timestamp", "_runtime", "_wandb")
_PLAIN = re.compile(r"[^\w.-]+")


@dataclass
class _Folded:
    """One run, as far as its records were read."""

    folders: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    start_ms: float = 0.0
    end_ms: float | None = None
    exit_code: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    stats: int = 0
    step: int = 0
    logged: dict[str, Path] = field(default_factory=dict)  # files of logged artifacts, by their name here


class WandbStore:
    """The offline runs below a folder: that of one run, a `wandb` folder, or one that holds a `wandb` folder."""

    def __init__(self, folder: Path) -> None:
        """Read all of them. Raises DataError when there are none, or for a file that is damaged in the middle."""
        folder = folder.resolve()
        self.identity = f"wandb:{folder}"
        patterns = ("run-*.wandb", "*run-*/run-*.wandb", "wandb/*run-*/run-*.wandb")
        files = next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])
        if not files:
            raise DataError("there is no offline run of W&B", value=str(folder), fix="name a `wandb` folder, or one offline-run-* in it")
        self._runs: dict[str, _Folded] = {}
        for file in files:
            self._read(file)

    def close(self) -> None:
        """Nothing is open."""

    def experiments(self) -> list[Experiment]:
        """One for each project."""
        first: dict[str, float] = {}
        for run in self._runs.values():
            project = _project(run)
            first[project] = min(run.start_ms, first.get(project, run.start_ms))
        return [Experiment(name, name, created_ms=round(at_ms)) for name, at_ms in sorted(first.items())]

    def runs(self, experiment: str) -> Iterable[Run]:
        """The runs of a project, oldest first. A run that never ended was killed."""
        for identity, run in sorted(self._runs.items(), key=lambda pair: (pair[1].start_ms, pair[0])):
            if _project(run) == experiment:
                status = "KILLED" if run.exit_code is None else "FINISHED" if run.exit_code == 0 else "FAILED"
                yield Run(
                    identity,
                    experiment,
                    run.facts.get("display_name") or run.facts["run_id"],
                    run.facts.get("entity", ""),
                    status,
                    round(run.start_ms),
                    None if run.end_ms is None else round(run.end_ms),
                    params={name: _text(value) for name, value in _flat(run.config) if not name.startswith("_wandb")},
                    tags=_tags(run),
                )

    def points(self, run: str) -> list[Point]:
        """Every number that was logged, and of the summary what the history does not have, at the last step."""
        found = self._runs[run]
        names = {point.name for point in found.points}
        at_ms = found.end_ms or found.start_ms
        rest = {name: value for name, value in _flat(found.summary) if name not in names and not _is_own(name)}
        more = [Point(name, float(value), at_ms, found.step) for name, value in rest.items() if _is_number(value)]
        return [*found.points, *more]

    def artifacts(self, run: Run) -> list[Artifact]:
        """The run's own files, those of the artifacts that it logged, and its log as W&B wrote it."""
        return sorted(Artifact(name, path.stat().st_size) for name, path in self._places(run.id).items())

    def fetch(self, run: Run, name: str, target: Path) -> None:
        """Copy one file of a run to `target`."""
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._places(run.id)[name], target)

    def registered(self) -> list[Registered]:
        """Offline runs know no registry."""
        return []

    def versions(self, model: str) -> list[RegisteredVersion]:
        """None."""
        raise DataError("offline runs of W&B have no registry", value=model)

    def fetch_version(self, version: RegisteredVersion, folder: Path) -> list[str]:
        """None."""
        raise DataError("offline runs of W&B have no registry", value=f"{version.model}, for {folder}")

    def _places(self, run: str) -> dict[str, Path]:
        found = self._runs[run]
        places = {f"artifacts/{name}": path for name, path in found.logged.items() if path.is_file()}
        for folder in found.folders:
            below = folder / "files"
            places |= {f"files/{path.relative_to(below).as_posix()}": path for path in below.rglob("*") if path.is_file()}
        return {**places, **{f"wandb/{file.parent.name}.wandb": file for file in found.files}}

    def _read(self, file: Path) -> None:
        run: _Folded | None = None
        for data in frames(file.read_bytes(), str(file)):
            record = wire.fields(data)
            begun = next((each for each in record if each.number == _RUN), None)
            if begun is not None:
                run = self._run(begun.message)
            if run is not None:
                _apply(run, record)
        if run is None:
            raise DataError("the file names no run", value=str(file), fix="it was cut short before its first record: leave it out")
        run.folders.append(file.parent)
        run.files.append(file)

    def _run(self, message: list[wire.Field]) -> _Folded:
        """The run that a record begins, or goes on with: a resumed one has several files."""
        names = {1: "run_id", 2: "entity", 3: "project", 6: "group", 7: "job_type", 8: "display_name", 9: "notes", 12: "sweep", 13: "host"}
        facts = {names[each.number]: each.text for each in message if each.number in names}
        identity = f"wandb-{_PLAIN.sub('-', facts.get('project') or 'uncategorized')}-{_PLAIN.sub('-', facts['run_id'])}"
        run = self._runs.setdefault(identity, _Folded())
        run.facts |= facts
        run.labels = [each.text for each in message if each.number == 10] or run.labels
        for each in message:
            if each.number == 17 and not run.start_ms:
                run.start_ms = _time_ms(each.message)
            elif each.number == 4:
                _update(run.config, each.message)
            elif each.number == 5:
                _update(run.summary, each.message)
        return run


def frames(data: bytes, name: str) -> Iterator[bytes]:
    """The records of a file. The last one may be cut short, and is left out then. Raises DataError for damage before that."""
    if not data.startswith(_HEADER):
        raise DataError(
            "this is no run file of W&B, or one of another version", value=name, fix="name a run-*.wandb of wandb 0.13 or later"
        )
    at, parts = len(_HEADER), b""
    while at + _FRAME.size <= len(data):
        left = BLOCK - at % BLOCK
        if left < _FRAME.size:
            at += left
            continue
        crc, length, kind = _FRAME.unpack_from(data, at)
        body = data[at + _FRAME.size : at + _FRAME.size + length]
        if length > left - _FRAME.size:  # no record leaves its block, however short the file
            raise _damaged(name, at)
        if len(body) < length:
            return  # it was being written when the run was killed
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or zlib.crc32(body, zlib.crc32(bytes([kind]))) != crc:
            if at + _FRAME.size + length >= len(data):
                return
            raise _damaged(name, at)
        at += _FRAME.size + length
        parts = body if kind in (_FULL, _FIRST) else parts + body
        if kind in (_FULL, _LAST):
            yield parts


def _damaged(name: str, at: int) -> DataError:
    return DataError(f"the run's file is damaged at byte {at}", value=name, fix="copy it again from where it was written")


def _apply(run: _Folded, record: list[wire.Field]) -> None:
    for each in record:
        if each.number == _HISTORY:
            _history(run, each.message)
        elif each.number == _CONFIG:
            _update(run.config, each.message)
        elif each.number == _SUMMARY:
            _update(run.summary, each.message)
        elif each.number == _STATS:
            _system(run, each.message)
        elif each.number == _ARTIFACT:
            _logged(run, each.message)
        elif each.number == _EXIT:
            facts = {part.number: part.signed for part in each.message}
            run.exit_code = facts.get(1, 0)
            run.end_ms = max(run.end_ms or 0, run.start_ms + 1000 * facts.get(2, 0))


def _history(run: _Folded, message: list[wire.Field]) -> None:
    values: dict[str, Any] = {}
    step: int | None = None
    for each in message:
        if each.number == 1:
            path, value = _item(each.message)
            values["\0".join(path)] = value
        elif each.number == 2:
            step = next((part.signed for part in each.message if part.number == 1), 0)
    own = values.get("_step", step)
    run.step = int(own) if own is not None else run.step + 1
    at_ms = 1000 * float(values.get("_timestamp", run.start_ms / 1000))
    run.end_ms = max(run.end_ms or 0, at_ms)
    nested = [(name.replace("\0", "."), value) for name, value in values.items() if name.partition("\0")[0] not in _OWN]
    for name, value in (leaf for top, inner in nested for leaf in _flat({top: inner})):
        if _is_number(value):
            run.points.append(Point(name, float(value), at_ms, run.step))


def _system(run: _Folded, message: list[wire.Field]) -> None:
    """A sample of the machine: its own step counts samples."""
    at_ms = next((_time_ms(each.message) for each in message if each.number == 2), run.start_ms)
    for each in message:
        if each.number == 3:
            path, value = _item(each.message)
            if _is_number(value):
                run.points.append(Point(f"system/{'.'.join(path)}", float(value), at_ms, run.stats))
    run.stats += 1


def _logged(run: _Folded, message: list[wire.Field]) -> None:
    facts = {each.number: each for each in message}
    name = f"{facts[4].text}-{facts[5].text}" if 4 in facts and 5 in facts else "artifact"
    for part in facts[12].message if 12 in facts else ():
        if part.number == 4:
            entry = {each.number: each for each in part.message}
            if 1 in entry and 6 in entry:
                file = Path(entry[6].text)
                if 2 in entry and file.is_file() and _md5(file) == entry[2].text:  # else it is not what was logged, whatever lies there
                    run.logged[f"{_PLAIN.sub('-', name)}/{entry[1].text}"] = file


def _md5(file: Path) -> str:
    """The digest by which W&B names a file of an artifact."""
    return base64.b64encode(hashlib.md5(file.read_bytes(), usedforsecurity=False).digest()).decode()


def _update(target: dict[str, Any], message: list[wire.Field]) -> None:
    """Apply updates and removals of a config or a summary, whose keys are paths."""
    for each in message:
        path, value = _item(each.message)
        if not path:
            continue
        place = target
        for part in path[:-1]:
            inner = place.get(part)
            if not isinstance(inner, dict):  # a plain value gives way to the mapping that is written in its place
                inner = {}
                if each.number == 1:
                    place[part] = inner
            place = inner
        if each.number == 1:
            place[path[-1]] = value
        else:
            place.pop(path[-1], None)


def _item(message: list[wire.Field]) -> tuple[list[str], Any]:
    """The path and the value of an item; W&B writes NaN and infinities as JavaScript does."""
    path = [each.text for each in message if each.number == 1 and each.value != b""] or [each.text for each in message if each.number == 2]
    text = next((each.text for each in message if each.number == 16), "null")
    try:
        return path, json.loads(text)
    except ValueError:
        return path, text


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by dotted name; what W&B keeps as an object of its own (an image, a table) is one leaf."""
    for name, value in values.items():
        if isinstance(value, dict) and "_type" not in value and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _is_own(name: str) -> bool:
    """Whether W&B wrote it of itself; `_step_size` is the user's."""
    return name.partition(".")[0] in _OWN


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or value in ("NaN", "Infinity", "-Infinity")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _tags(run: _Folded) -> dict[str, str]:
    named = ("run_id", "project", "group", "job_type", "sweep", "host")
    tags = {f"wandb.{name}": run.facts[name] for name in named if run.facts.get(name)}
    notes = {"mlflow.note.content": run.facts["notes"]} if run.facts.get("notes") else {}
    return {**tags, **notes, **({"wandb.tags": json.dumps(run.labels)} if run.labels else {})}


def _project(run: _Folded) -> str:
    return run.facts.get("project") or "uncategorized"


def _time_ms(message: list[wire.Field]) -> float:
    parts = {each.number: each.signed for each in message}
    return 1000.0 * parts.get(1, 0) + parts.get(2, 0) / 1e6
