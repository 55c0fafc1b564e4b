"""Random histories of a ledger, for tests of what is folded from events: every kind of event, few names, so that they meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from bedplate.core.event import Draft
from bedplate.core.record import Records
from bedplate.core.versions import Version

RUNS = ("fit-1", "fit-2", "api-1", "sums-1", "0f3c")
MODELS = ("price", "delay", '["odd"]')
TOKENS = st.integers(1, 3)
NUMBERS = st.integers(1, 9)

created = st.fixed_dictionaries(
    {
        "step": st.sampled_from(["fit", "api"]),
        "kind": st.sampled_from(["train", "endpoint"]),
        "launch": st.sampled_from(["up-1", "run-2"]),
        "fingerprint": st.sampled_from(["f", "g"]),
        "max_restarts": st.integers(0, 2),
        "params": st.dictionaries(st.sampled_from(["lr", "epochs"]), st.floats(allow_nan=False, allow_infinity=False)),
    }
)
attempt_started = st.fixed_dictionaries(
    {"token": TOKENS, "engine": st.just("local"), "folder": st.just("runs/x"), "handle": st.just({"pid": 1, "more": [1, None, "ä"]})}
)
attempt_ended = st.fixed_dictionaries(
    {
        "token": TOKENS,
        "status": st.sampled_from(["failed", "succeeded", "stopped"]),
        "failure": st.sampled_from([None, "worker_lost", "node_lost", "user_error", "preempted"]),
        "message": st.just("gone"),
        "signal": st.sampled_from([None, "SIGSEGV"]),
        "step": st.integers(0, 3),
        "node": st.sampled_from([None, "n1", "n2"]),
    }
)
restarted = st.fixed_dictionaries(
    {"token": TOKENS, "failure": st.sampled_from(["hang", "preempted"]), "signal": st.just("SIGBUS"), "step": NUMBERS}
)
finished = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["succeeded", "failed"]),
        "outputs": st.just(["price@1"]),
        "metrics": st.just({"rmse": 0.1}),
        "params": st.just({}),
    }
)
requested = st.just({"mode": "up", "targets": ["fit"], "force": [], "spec": {"project": "x"}})
logged = st.fixed_dictionaries(
    {"experiment": st.just("1"), "experiment_name": st.just("e"), "user": st.just("u"), "start_ms": st.just(5), "name": st.just("n")}
)
changed = st.fixed_dictionaries(
    {"params": st.just({"lr": "1"}), "tags": st.sampled_from([{"a": "1"}, {"a": None}]), "metrics": st.just({"loss": ["0.5", 7, 1]})},
    optional={"status": st.sampled_from(["FINISHED", "KILLED"]), "end_ms": st.sampled_from([None, 9000])},
)
OF_RUNS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "run.created": created,
    "attempt.started": attempt_started,
    "attempt.ended": attempt_ended,
    "attempt.restarted": restarted,
    "attempt.noticed": st.fixed_dictionaries({"token": TOKENS, "what": st.just("slow")}),
    "checkpoint.committed": st.fixed_dictionaries({"token": TOKENS, "step": NUMBERS}),
    "endpoint.ready": st.fixed_dictionaries({"token": TOKENS, "port": st.just(8000)}),
    "stop.requested": st.fixed_dictionaries({"how": st.sampled_from(["stop", "cancel"])}),
    "run.finished": finished,
    "run.logged": logged,
    "run.changed": changed,
}


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """One event of any kind."""
    kind = draw(
        st.sampled_from(
            [*OF_RUNS, *OF_RUNS, "version", "alias", "launch", "launched", "evaluated", "accepted", "removed", "tagged", "trusted"]
        )
    )
    if kind in OF_RUNS:
        return Draft(kind, draw(st.sampled_from(RUNS)), draw(OF_RUNS[kind]))
    model, number = draw(st.sampled_from(MODELS)), draw(NUMBERS)
    if kind == "version":
        version = Version(model, number, "model", draw(st.sampled_from("abc")), "x", "fit-1", 1.5, {"rows": number})
        return Draft("version.created", version.ref, {"version": version.to_json()})
    payloads: dict[str, tuple[str, str, dict[str, Any]]] = {
        "alias": (
            "alias.moved",
            model,
            {"alias": draw(st.sampled_from(["production", "canary"])), "version": number, "decision": {"by": "gate"}},
        ),
        "launch": ("launch.requested", draw(st.sampled_from(["up-1", "run-2"])), draw(requested)),
        "launched": ("launch.finished", draw(st.sampled_from(["up-1", "run-2"])), {"status": "done"}),
        "evaluated": ("evaluation.recorded", model, {"candidate": f"{model}@{number}", "metrics": {"rmse": 0.5}}),
        "accepted": ("step.accepted", "fit", {"fingerprint": f"f{number}"}),
        "removed": ("version.removed", f"{model}@{number}", {"by": "ann", "reason": "old"}),
        "tagged": ("version.tagged", f"{model}@{number}", {"tags": {"stage": draw(st.sampled_from(["a", None]))}, "by": "ann"}),
        "trusted": ("artifact.trusted", "ab" * 32, {"by": "ann", "reason": "ours"}),
    }
    return Draft(*payloads[kind])


def as_plain(records: Records) -> dict[str, Any]:
    """All that records say, in order, whatever they are read from."""
    found: dict[str, Any] = {"seq": records.seq}
    for name, value in vars(records).items():
        if hasattr(value, "items"):
            found[name] = [(key, list(inner) if name in ("versions", "aliases") else inner) for key, inner in value.items()]
    return found


def asked(records: Records) -> dict[str, Any]:
    """The answers to all questions that are answered by an index."""
    return {
        "steps": [records.of_step(step) for step in ("fit", "api", "logged:e", "none")],
        "failed": records.of_step("fit", "failed"),
        "newest": [records.newest(step) for step in ("fit", "api", "none")],
        "launches": [records.of_launch(launch) for launch in ("up-1", "run-2", "")],
        "live": records.live(),
        "open": records.open_launches(),
        "same": [records.same_content(model, digest) for model in (*MODELS, "none") for digest in "abcd"],
        "moves": [{alias: list(moves) for alias, moves in records.moves(model).items()} for model in MODELS],
        "aliases": [records.alias(model, "production") for model in MODELS],
        "there": ["fit-1" in records.runs, "fit-9" in records.runs, "price" in records.versions, len(records.runs), len(records.versions)],
    }
