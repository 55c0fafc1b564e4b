"""Replaying: a run done again from its record, in a scratch state, and where the first difference is.

Code comes from the snapshot that the run executed (or, on request, from the project as it is now), inputs are the recorded versions, read
where they lie. Nothing is recorded, no version is made and no alias moves.
Does not know: why results differ; it says which of data, code, environment and results do.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bedplate.core.attempt import Attempt
from bedplate.core.digest import digest_file, digest_files
from bedplate.core.errors import BedplateError, NotFound
from bedplate.core.journal import JournalReader
from bedplate.core.loading import load
from bedplate.core.record import RunRecord
from bedplate.core.versions import Output, Version
from bedplate.flow.accept import Findings
from bedplate.flow.closure import closure
from bedplate.flow.differing import first_difference
from bedplate.flow.facts import is_present, location_of
from bedplate.flow.intact import damage
from bedplate.flow.launching import ENVIRONMENTS, environment, make_attempt
from bedplate.flow.lower import lower
from bedplate.flow.tables import LAUNCHERS
from bedplate.flow.workspace import Workspace

KINDS = ("job", "train", "training_set", "feature", "gate")
POLL_S = 0.1
TOKEN = 1


@dataclass(frozen=True)
class Aspect:
    """One of data, code, environment and results: whether it agrees, and what was compared or the first difference."""

    name: str
    agrees: bool
    said: str


@dataclass(frozen=True)
class Replay:
    """What came of a replay. `notes` are differences that did not go into it."""

    run: str
    aspects: tuple[Aspect, ...]
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether everything does."""
        return all(aspect.agrees for aspect in self.aspects)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {"run": self.run, "agrees": self.agrees, "aspects": [asdict(aspect) for aspect in self.aspects], "notes": list(self.notes)}

    def text(self) -> str:
        """One line for each aspect."""
        lines = [f"{aspect.name.ljust(12)} {'agrees' if aspect.agrees else 'DIFFERS'}  {aspect.said}" for aspect in self.aspects]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def replay(workspace: Workspace, name: str, scratch: Path, here: bool = False) -> Replay:
    """Run the run `name` (or the newest of a step) again below the empty folder `scratch`; `here`: with the project's code as it is now.

    Raises NotFound for no run, BedplateError for one that did not succeed or whose kind is not replayed.
    """
    run = workspace.records.run(name)
    if run.kind not in KINDS:
        fix = f"replay a step that makes something: {', '.join(KINDS)}"
        raise BedplateError(f"a run of kind {run.kind!r} is not replayed", value=run.id, fix=fix)
    if run.status != "succeeded":
        raise BedplateError(
            "only a run that succeeded has results to compare with", value=run.id, fix=f"it {run.status}: see `bedplate explain`"
        )
    folder, code = _code_of(workspace, run, here)
    data = _data(workspace, run)
    found = [data, code, _environment(workspace, run)]
    notes = [] if here else _changed_since(workspace, run)
    if data.agrees and folder is not None:
        found.append(_results(workspace, run, _scratch_attempt(workspace, run, scratch, folder)))
    else:
        found.append(Aspect("results", False, "not run: what it needs is not there as it was"))
    return Replay(run.id, tuple(found), tuple(notes))


def _data(workspace: Workspace, run: RunRecord) -> Aspect:
    refs = dict(run.made["inputs"])
    for name, ref in refs.items():
        try:
            version = workspace.records.version(ref)
        except NotFound as error:
            return Aspect("data", False, f"the input {name}: {error.one_line()}")
        wrong = damage(location_of(workspace, version), version) if is_present(workspace, version) else "it is gone"
        if wrong:
            return Aspect("data", False, f"the input {name} ({ref}): {wrong}")
    return Aspect("data", True, ", ".join(sorted(refs.values())) or "it has no inputs")


def _code_of(workspace: Workspace, run: RunRecord, here: bool) -> tuple[Path | None, Aspect]:
    """Where the code lies that is to run (None: nowhere), and how it stands to what was recorded."""
    recorded = run.made["code"]
    if recorded is None:
        return workspace.project.root, Aspect("code", True, "it has no code of the project's")
    root = workspace.project.root if here else workspace.code_store / recorded["snapshot"]
    changed = _changed(root, recorded)
    if changed:
        return (root if here else None), Aspect("code", False, changed)
    return root, Aspect("code", True, f"{len(recorded['files'])} files, {recorded['snapshot'][:12]}")


def _changed(root: Path, recorded: Mapping[str, Any]) -> str:
    """The first file of code that is not as it was recorded."""
    known = recorded.get("digests", {})
    for name in recorded["files"]:
        if not (root / name).is_file():
            return f"the file {name} is missing"
        if name in known and digest_file(root / name) != known[name]:
            return f"the file {name} changed"
    return "" if digest_files(root, recorded["files"]) == recorded["snapshot"] else "a file changed; this record does not say which"


def _changed_since(workspace: Workspace, run: RunRecord) -> list[str]:
    """How the project's own code differs from what the run executed: it does not take part."""
    recorded = run.made["code"]
    step = next((step for step in lower(workspace.project.spec) if step.name == run.step), None)
    if recorded is None or step is None:
        return []
    changed = _changed(workspace.project.root, recorded)
    if not changed and set(closure(workspace.project.root, step.entries, step.globs).files) != set(recorded["files"]):
        changed = "it consists of other files"
    return [f"the project's code is another now: {changed} (--here replays with it)"] if changed else []


def _environment(workspace: Workspace, run: RunRecord) -> Aspect:
    recorded = run.made["environment"]
    for name, version in run.made.get("components", {}).get("packages", ()):
        installed = _installed(name)
        if installed != version:
            return Aspect("environment", False, f"the package {name} was {version} and is {installed or 'not installed'}")
    now = environment(workspace.state / "environment.json")
    for name in ("python", "platform"):
        if recorded.get(name) != now[name]:
            return Aspect("environment", False, f"{name}: was {recorded.get(name)}, is {now[name]}")
    if recorded.get("lock") != now["lock"]:
        return Aspect("environment", False, _repackaged(workspace, str(recorded.get("lock")), now["lock"]))
    return Aspect("environment", True, f"Python {now['python']}, {now['packages']} packages, {now['lock'][:12]}")


def _repackaged(workspace: Workspace, before: str, now: str) -> str:
    """Which installed packages changed; none of them is imported by the step's own code."""
    lists = [workspace.state / ENVIRONMENTS / f"{lock}.json" for lock in (before, now)]
    if not all(path.is_file() for path in lists):
        return f"other packages are installed: the list was {before[:12]} and is {now[:12]}"
    old, new = (dict(entry.split("==", 1) for entry in json.loads(path.read_bytes())) for path in lists)
    name = next(name for name in sorted({*old, *new}) if old.get(name) != new.get(name))
    return f"the package {name} was {old.get(name, 'not installed')} and is {new.get(name, 'not installed')}"


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _scratch_attempt(workspace: Workspace, run: RunRecord, scratch: Path, code: Path) -> Attempt:
    """The run's attempt with all that it writes below `scratch`: its state, and the project's folder as far as it writes there."""
    made = make_attempt(workspace, run, TOKEN, None)
    state, root = scratch / "state", scratch / "project"
    state.mkdir(parents=True)
    if (workspace.state / "lake").is_dir():
        (state / "lake").symlink_to(workspace.state / "lake")  # cuts are read there; none of KINDS writes it
    outputs = [name for name in run.made["spec"].get("outputs", ()) if "://" not in name]
    _mirror(workspace.project.root, root, {Path(name) for name in outputs}, workspace.state)
    if code != workspace.project.root and run.made["code"] is not None:
        _put_code(root, code, run.made["code"]["files"])
    folder = state / "runs" / run.id / str(TOKEN)
    words = {made.folder: str(folder)}
    argv = tuple(words.get(word, word) for word in made.argv)
    shim = tuple(words.get(word, word) for word in made.shim_argv)
    spec = {**made.spec, "restarts_left": 0, **_own_tiers(made.spec)}
    placed = replace(made, folder=str(folder), root=str(root), state=str(state), code=str(code))
    return replace(placed, argv=argv, shim_argv=shim, spec=spec)


def _own_tiers(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Checkpoints of a replay stay on its disk: an object store has those of the run itself under the same names."""
    return {"checkpoint": {**spec["checkpoint"], "tiers": ["disk"]}} if spec.get("checkpoint") else {}


def _mirror(source: Path, target: Path, written: set[Path], left_out: Path) -> None:
    """`target` as `source` by links, but for folders in which something is `written` (relative paths), which are made anew."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        name = Path(path.name)
        below = {each.relative_to(name) for each in written if each.is_relative_to(name)}
        if path == left_out or Path() in below or any(each == name for each in written):
            continue
        if below and path.is_dir():
            _mirror(path, target / name, below, left_out)
        else:
            (target / name).symlink_to(path)
    for each in written:
        (target / each).parent.mkdir(parents=True, exist_ok=True)


def _put_code(root: Path, code: Path, files: list[str]) -> None:
    """The recorded files of code in place of the project's own, as far as links allow: a command is run by name from here."""
    for name in files:
        place = root
        for part in Path(name).parent.parts:
            place /= part
            if place.is_symlink():
                real = place.resolve()
                place.unlink()
                _mirror(real, place, set(), real / "")
        place.mkdir(parents=True, exist_ok=True)
        target = root / name
        target.unlink(missing_ok=True)
        target.symlink_to(code / name)


def _results(workspace: Workspace, run: RunRecord, attempt: Attempt) -> Aspect:
    status, findings, metrics = _done(workspace, attempt)
    if status != "succeeded":
        said = findings.failure.get("message") or f"see {attempt.log(0)}"
        return Aspect("results", False, f"this time it {status}: {said}")
    made = {output.name: output for output in findings.outputs}
    recorded = {ref.rpartition("@")[0]: workspace.records.version(ref) for ref in run.outputs}
    for name in sorted({*made, *recorded}):
        if name not in made or name not in recorded:
            return Aspect("results", False, f"the output {name} is {'new' if name not in recorded else 'missing'}")
        if made[name].digest != recorded[name].digest:
            return Aspect("results", False, f"the output {name}: {_where(workspace, attempt, recorded[name], made[name])}")
    if findings.evaluation is not None:
        return _evaluated(run, findings.evaluation)
    if not recorded:
        wrong = next((name for name in sorted(run.metrics) if metrics.get(name) != run.metrics[name]), None)
        if wrong is not None:
            return Aspect("results", False, f"the metric {wrong} was {run.metrics[wrong]} and is {metrics.get(wrong)}")
    return Aspect("results", True, ", ".join(sorted(version.ref for version in recorded.values())) or f"{len(run.metrics)} metrics")


def _where(workspace: Workspace, attempt: Attempt, recorded: Version, made: Output) -> str:
    if recorded.kind == "stream":
        return "a stream has an identity of its own, so that its digest is never the same; replay what was made of it"
    base = Path(attempt.root) if made.kind == "file" else Path(attempt.state)
    before = location_of(workspace, recorded)
    if not before.exists():
        return f"its digest was {recorded.digest[:12]} and is {made.digest[:12]}; the old bytes are gone"
    return first_difference(before, base / made.location) or f"its digest was {recorded.digest[:12]} and is {made.digest[:12]}"


def _evaluated(run: RunRecord, evaluation: Mapping[str, Any]) -> Aspect:
    """A gate makes no version: what it measured is compared."""
    for name, value in sorted(evaluation["metrics"].items()):
        if run.metrics.get(name) != value:
            return Aspect("results", False, f"the metric {name} was {run.metrics.get(name)} and is {value}")
    return Aspect("results", True, f"{len(evaluation['metrics'])} metrics of {evaluation['candidate']}")


def _done(workspace: Workspace, attempt: Attempt) -> tuple[str, Findings, dict[str, float]]:
    """Run the attempt to its end: its status, what its journal said, and the last value of each metric. Ctrl-C ends it at once."""
    launcher = load(LAUNCHERS, "local", "engine")()
    reader, findings, status = JournalReader(attempt.path), Findings(), "vanished"
    metrics: dict[str, float] = {}
    handle = launcher.submit(attempt)
    try:
        alive = True
        while alive:
            alive = launcher.poll(handle) != "gone"
            for entry in reader.read():
                findings.add(entry)
                if entry.kind == "metric":
                    metrics |= entry.body["values"]
                elif entry.kind == "ended":
                    status = str(entry.body["status"])
            workspace.clock.sleep(POLL_S)
    except BaseException:
        launcher.cancel(handle, "cancel")
        raise
    return status, findings, metrics
