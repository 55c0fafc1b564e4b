"""The stale pass: which steps are up to date, which must run and why. Pure: `(steps, facts) -> planned steps`.

A step's fingerprint covers its spec, the digest of its code, its input versions, its sources and the packages that its code imports. It is
up to date when a run with that fingerprint succeeded and its outputs are there. A step whose inputs are not known yet waits; it may
turn out to be up to date when they are, if they come out as before.
Does not know: where steps run, or what a user forced (that is in the facts as pinned or accepted).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bedplate.core.digest import digest
from bedplate.core.plan import PlannedStep, Step, Verdict
from bedplate.core.versions import Version
from bedplate.flow.facts import Facts, Made

Judged = tuple[Verdict, str]


def judge(steps: Iterable[Step], facts: Facts, force: Sequence[str] = ()) -> tuple[PlannedStep, ...]:
    """The steps with their verdicts, fingerprints and reasons, in the given order (needs first)."""
    planned: dict[str, PlannedStep] = {}
    outputs: dict[str, Mapping[str, Version]] = {}
    for step in steps:
        waiting = [need for need in step.needs if planned[need].verdict != "fresh"]
        estimate = next((made.run.duration_s for made in facts.made[step.name]), None)
        if waiting:
            planned[step.name] = PlannedStep(step, "waits", f"after {', '.join(waiting)}", estimate_s=estimate)
            continue
        parts = components(step, facts, {need: outputs[need] for need in step.needs})
        (verdict, why), made = _judge_known(step, parts, facts, step.name in force)
        planned[step.name] = PlannedStep(
            step, verdict, why, fingerprint=digest(parts), estimate_s=estimate, made_by=made.run.id if made else None
        )
        outputs[step.name] = _outputs(step, made, facts)
    return tuple(planned.values())


def _outputs(step: Step, made: Made | None, facts: Facts) -> Mapping[str, Version]:
    if step.kind == "gate":  # what a gate gives on is the version that its alias points to now, whoever moved it
        return {step.name: facts.aliased[step.name]} if step.name in facts.aliased else {}
    return made.outputs if made else {}


def components(step: Step, facts: Facts, inputs: Mapping[str, Mapping[str, Version]]) -> dict[str, object]:
    """What the fingerprint of a step whose inputs are known is made of."""
    code = facts.code.get(step.name)
    return {
        "kind": step.kind,
        "spec": digest(dict(step.spec)),
        "code": code.digest if code else None,
        "packages": [list(package) for package in code.packages] if code else [],
        "inputs": {
            f"{need}/{name}": version.digest
            for need, made in inputs.items()
            for name, version in made.items()
            if not step.reads or name in step.reads
        },
        "sources": {source: facts.sources[source] for source in step.sources},
    }


def _judge_known(step: Step, parts: Mapping[str, object], facts: Facts, forced: bool) -> tuple[Judged, Made | None]:
    fingerprint = digest(dict(parts))
    pinned = facts.pinned.get(step.name)
    if pinned is not None:
        return ("fresh", f"made by {pinned.run.id} in this launch"), pinned
    if step.name in facts.held:
        held, why = facts.held[step.name]
        return ("fresh", why), held
    under_way = facts.active.get((step.name, fingerprint))
    if under_way is not None:  # what it makes counts when it has ended, also where the same was made before
        return ("run", f"under way as {under_way}"), None
    if forced:
        return ("run", "forced"), None
    if step.kind == "endpoint":
        return _judge_endpoint(step, fingerprint, parts, facts)
    known = facts.made[step.name]
    same = next((made for made in known if made.run.fingerprint == fingerprint), None)
    if same is not None and same.present:
        return ("fresh", _made_by(same)), same
    if same is not None:
        return ("run", f"what {same.run.id} made is gone"), None
    newest = next((made for made in known if made.present), None)
    if newest is not None and facts.accepted.get(step.name) == fingerprint:
        return ("fresh", f"accepted as made by {newest.run.id}"), newest
    return ("run", why_not(parts, known[0]) if known else "never made"), None


def _made_by(made: Made) -> str:
    refs = ", ".join(version.ref for version in made.outputs.values())
    return f"{refs or 'done'} by {made.run.id}"


def _judge_endpoint(step: Step, fingerprint: str, parts: Mapping[str, object], facts: Facts) -> tuple[Judged, Made | None]:
    run = facts.serving.get(step.name)
    if run is None:
        return ("run", "not serving"), None
    if run.fingerprint == fingerprint:
        return ("fresh", f"serving on 127.0.0.1:{run.port} since {run.id}"), Made(run, {}, True)
    return ("run", why_not(parts, Made(run, {}, True))), None


def why_not(parts: Mapping[str, object], before: Made) -> str:
    """What differs between a step's fingerprint now and that of an earlier run, in a few words."""
    old: Mapping[str, object] = before.run.made.get("components", {})
    reasons = []
    if parts["spec"] != old.get("spec"):
        reasons.append("its declaration changed")
    if parts["code"] != old.get("code"):
        reasons.append("its code changed")
    if parts["packages"] != old.get("packages"):
        reasons.append(_changed_packages(parts["packages"], old.get("packages")))
    for noun in ("inputs", "sources"):
        now, then = parts[noun], old.get(noun)
        if now != then and isinstance(now, dict) and isinstance(then, dict):
            names = sorted(
                {name.partition("/")[0] if noun == "inputs" else name for name in {*now, *then} if now.get(name) != then.get(name)}
            )
            reasons.append(f"{', '.join(names)} changed")
    return "; ".join(reasons) + f" since {before.run.id}" if reasons else f"{before.run.id} was made otherwise"


def _changed_packages(now: object, then: object) -> str:
    before = {tuple(pair) for pair in then} if isinstance(then, list) else set()
    changed = (
        sorted(f"{name} {version}" for name, version in (tuple(pair) for pair in now if tuple(pair) not in before))
        if isinstance(now, list)
        else []
    )
    return f"packages changed ({', '.join(changed) or 'one is gone'})"
