"""What a job made, as versions to be: its declared outputs, and the artifacts that a command logged.

Does not know: whether the job succeeded, or what it computed.
"""

from __future__ import annotations

from pathlib import Path

from bedplate.core.atomic import confined
from bedplate.core.attempt import Attempt
from bedplate.core.clock import SystemClock
from bedplate.core.digest import digest, digest_file, digest_files
from bedplate.core.errors import JobError
from bedplate.core.versions import Output
from bedplate.data.streams.log import Log
from bedplate.flow.steps.context import StepContext

STREAM = "log://"
ARTIFACTS = "artifacts"


def declared(attempt: Attempt, name: str) -> Output | None:
    """The declared output `name`, a stream (`log://topic`) or a file below the project; None when it is not there.

    Raises BedplateError for a path that leads outside the project.
    """
    return _stream(attempt, name) if name.startswith(STREAM) else _file(attempt, name)


def report_outputs(step: StepContext) -> None:
    """Report every declared output as a version. Raises JobError for one that was not made."""
    for name in step.attempt.spec["outputs"]:
        made = declared(step.attempt, name)
        if made is None:
            noun, fix = (
                ("stream", "append to run.stream(TOPIC)") if name.startswith(STREAM) else ("file", "write it below the project's folder")
            )
            raise JobError(f"the job did not write a {noun} that it declared", value=name, fix=f"{fix}, or take it out of `outputs`")
        step.journal.write("output", **made.to_json())
    step.journal.sync()


def artifacts(attempt: Attempt) -> Output | None:
    """The files below the attempt's folder of artifacts as one output, `STEP.artifacts`; None when there are none.

    Links are left out, and so is what an upload that was cut short left behind.
    """
    folder = attempt.out / ARTIFACTS
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and not _is_partial(path)]
    if not paths:
        return None
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    location = folder.relative_to(attempt.state)
    meta = {"files": len(names), "bytes": sum(path.stat().st_size for path in paths)}
    return Output(f"{attempt.step}.{ARTIFACTS}", "files", digest_files(folder, names), str(location), meta)


def _is_partial(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp")


def _stream(attempt: Attempt, name: str) -> Output | None:
    topic = name.removeprefix(STREAM)
    folder = Path(attempt.state) / "log" / topic
    if not folder.is_dir():
        return None
    log = Log(folder, SystemClock())
    offsets = {str(partition): offset for partition, offset in sorted(log.end_offsets().items())}
    meta = {"offsets": offsets, "rows": sum(offsets.values())}
    return Output(name, "stream", digest([log.identity, offsets]), str(Path("log") / topic), meta)


def _file(attempt: Attempt, name: str) -> Output | None:
    root = Path(attempt.root)
    path = confined(root, name)
    if not path.is_file():
        return None
    return Output(name, "file", digest_file(path), str(path.relative_to(root.resolve())), {"bytes": path.stat().st_size})
