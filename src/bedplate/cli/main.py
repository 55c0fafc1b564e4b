"""The entry of the command line: a table of commands; each is imported when it is called, so `bedplate --help` is quick.

Does not know: what any command does.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Mapping, Sequence

from bedplate.core.errors import BedplateError, nearest
from bedplate.core.loading import Entry, load

COMMANDS: Mapping[str, Entry] = {
    "init": Entry("bedplate.cli.init:init", "a project from a template, or around code that is already there"),
    "plan": Entry("bedplate.cli.plan:plan", "what would run, where and why; starts nothing"),
    "catalog": Entry("bedplate.cli.catalog:catalog", "accelerators that a plan can be made for, with sources"),
    "run": Entry("bedplate.cli.run:run", "make one target and what it needs; never moves production"),
    "up": Entry("bedplate.cli.up:up", "bring up everything declared: data, features, jobs, gate, endpoints"),
    "watch": Entry("bedplate.cli.watch:watch", "launch what the project's triggers ask for: data, code, drift, a schedule"),
    "down": Entry("bedplate.cli.down:down", "stop endpoints, live runs and the server"),
    "ps": Entry("bedplate.cli.ps:ps", "what is running, and what ran last"),
    "logs": Entry("bedplate.cli.logs:logs", "what a run printed; -f follows it"),
    "replay": Entry("bedplate.cli.replay:replay", "run a run again from its record, and name the first difference"),
    "explain": Entry("bedplate.cli.explain:explain", "why a run or step is as it is, and what would help"),
    "doctor": Entry("bedplate.cli.doctor:doctor", "what holds a run's steps back, and what its absence would gain"),
    "cancel": Entry("bedplate.cli.cancel:cancel", "end a run at once"),
    "runs": Entry("bedplate.cli.runs:runs", "experiments: parameters and metrics of runs, filtered and sorted"),
    "compare": Entry("bedplate.cli.compare:compare_runs", "runs side by side: a table, curves, one HTML page"),
    "promote": Entry("bedplate.cli.promote:promote", "move an alias by hand, with a recorded reason"),
    "rollback": Entry("bedplate.cli.rollback:rollback", "return an alias to the version before; endpoints follow"),
    "models list": Entry("bedplate.cli.models_list:models_list", "the versions of models: aliases, origin, license, tags"),
    "models show": Entry("bedplate.cli.models_show:models_show", "the card of one version, rendered from the ledger"),
    "models tag": Entry("bedplate.cli.models_tag:models_tag", "set tags of a version, or take them away"),
    "models remove": Entry("bedplate.cli.models_remove:models_remove", "delete a version's bytes; its record and the reason stay"),
    "models trust": Entry("bedplate.cli.models_trust:models_trust", "vouch for one file that could run code, audited"),
    "import mlflow": Entry("bedplate.cli.import_mlflow:import_mlflow", "bring an MLflow store in: runs, metrics, artifacts, registry"),
    "import wandb": Entry("bedplate.cli.import_wandb:import_wandb", "bring the offline runs of a W&B folder in"),
    "export mlflow": Entry("bedplate.cli.export_mlflow:export_mlflow", "write runs and models to an MLflow store or server"),
    "approve": Entry("bedplate.cli.approve:approve", "approve a version that the gate left waiting"),
    "accept": Entry("bedplate.cli.accept:accept", "declare the present result of a step good, with a recorded reason"),
    "pools": Entry("bedplate.cli.pools:pools", "where steps may run, and what each place has, costs and emits"),
    "pools refresh": Entry("bedplate.cli.pools_refresh:pools_refresh", "bring the prices of pools.yaml up to date"),
    "cost": Entry("bedplate.cli.cost:cost", "the bill: money, energy, CO2, idle and lost work, by run, model, user or day"),
    "ask": Entry("bedplate.cli.ask:ask", "send one request to an endpoint"),
    "keys add": Entry("bedplate.cli.keys_add:keys_add", "make an API key for endpoints that want one"),
    "keys list": Entry("bedplate.cli.keys_list:keys_list", "the API keys, without their secrets"),
    "keys revoke": Entry("bedplate.cli.keys_revoke:keys_revoke", "take an API key back"),
    "lineage": Entry("bedplate.cli.lineage:lineage", "the whole way back of an answer, a model or a table"),
    "ci init": Entry("bedplate.cli.ci_init:ci_init", "write a pipeline for GitHub Actions or GitLab"),
    "ci comment": Entry("bedplate.cli.ci_comment:ci_comment", "the plan and the models' metrics as Markdown"),
    "ci mark": Entry("bedplate.cli.ci_mark:ci_mark", "note where every alias points"),
    "ci canary": Entry("bedplate.cli.ci_canary:ci_canary", "ask an endpoint requests that it must answer"),
    "ci back": Entry("bedplate.cli.ci_back:ci_back", "return every alias to a mark"),
    "data check": Entry("bedplate.cli.data_check:data_check", "whether a dataset keeps its expectations, rule by rule"),
    "data drift": Entry("bedplate.cli.data_drift:data_drift", "how the columns of a dataset moved between two versions"),
    "data ingest": Entry("bedplate.cli.data_ingest:data_ingest", "bring a stream into its table, once or on and on"),
    "data history": Entry("bedplate.cli.data_history:data_history", "the versions of a table"),
    "data diff": Entry("bedplate.cli.data_diff:data_diff", "what differs between two versions of a table"),
    "data checkout": Entry("bedplate.cli.data_checkout:data_checkout", "write a version of a table to a file"),
    "data snapshot": Entry("bedplate.cli.data_snapshot:data_snapshot", "pin the versions of all tables, views and files under one name"),
    "data vacuum": Entry("bedplate.cli.data_vacuum:data_vacuum", "apply the declared retention of tables"),
    "data rollback": Entry("bedplate.cli.data_rollback:data_rollback", "bring a table back to an earlier version, and hold it there"),
    "data release": Entry("bedplate.cli.data_release:data_release", "end a rollback: ingestion goes on from there"),
    "data tag": Entry("bedplate.cli.data_tag:data_tag", "name a version of a table"),
    "data add": Entry("bedplate.cli.data_add:data_add", "keep files and folders as DVC does"),
    "data status": Entry("bedplate.cli.data_status:data_status", "what changed in kept files and folders"),
    "data push": Entry("bedplate.cli.data_push:data_push", "copy kept files to a remote: a folder or S3"),
    "data pull": Entry("bedplate.cli.data_pull:data_pull", "have the files that .dvc files name, fetched where they lack"),
    "data get": Entry("bedplate.cli.data_get:data_get", "write a kept file or folder somewhere else"),
    "features skew": Entry("bedplate.cli.features_skew:features_skew", "what an endpoint served beside what training would have computed"),
    "audit key": Entry("bedplate.cli.audit_key:audit_key", "the public key of decisions and heads; --trust another's"),
    "audit verify": Entry("bedplate.cli.audit_verify:audit_verify", "find a changed, dropped or reordered event of the ledger"),
    "checkpoint export": Entry("bedplate.cli.checkpoint_export:checkpoint_export", "weights as safetensors, as the Hub has them"),
    "scale": Entry("bedplate.cli.scale:scale", "say how many workers a live elastic run should have"),
    "evidence": Entry("bedplate.cli.evidence:evidence", "one folder about a model version that verifies offline"),
    "evidence verify": Entry("bedplate.cli.evidence_verify:evidence_verify", "what holds of an evidence folder, without the ledger"),
    "affected": Entry("bedplate.cli.affected:affected", "the versions and answers that saw a person's rows"),
    "ledger backup": Entry("bedplate.cli.ledger_backup:ledger_backup", "copy the ledger, consistent while it is written"),
    "server": Entry("bedplate.cli.server:server", "host the loop of a project, and serve MLflow's clients"),
}

HEADER = "Bedplate: from raw data to a served, governed model.\n\nUsage: bedplate COMMAND [OPTIONS]\n"
FOOTER = "\n`bedplate COMMAND --help` shows the options of a command and an example."


GARBAGE_OBJECTS = 100_000  # made before cycles are looked for: most commands end before; a tenth less time for 20,000 files


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for a failure that is explained, 2 for wrong usage."""
    gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("--help", "-h") or words == ["help"]:
        print(help_text())
        return 0
    if words[0] == "help":
        words = [*words[1:], "--help"]
    if words[0] == "--version":
        print(_version())
        return 0
    name = next((" ".join(words[:count]) for count in (2, 1) if " ".join(words[:count]) in COMMANDS), None)
    return _unknown(words) if name is None else _call(name, words[len(name.split()) :])


def help_text(group: str = "") -> str:
    """The list of commands, or of those whose first word is `group`."""
    listed = {name: entry for name, entry in COMMANDS.items() if name.startswith(f"{group} ".lstrip())}
    width = max(map(len, listed))
    return "\n".join([HEADER, *(f"  {name.ljust(width)}  {entry.summary}" for name, entry in listed.items()), FOOTER])


def _unknown(words: Sequence[str]) -> int:
    group = any(known.startswith(f"{words[0]} ") for known in COMMANDS)
    if group and words[1:2] in (["--help"], ["-h"]):
        print(help_text(words[0]))
        return 0
    typed = " ".join(words[:2]) if group else words[0]
    fix = "options follow the command, see `bedplate --help`" if typed.startswith("-") else nearest(typed, COMMANDS)
    print(f"error: no such command: {typed!r}; {fix}", file=sys.stderr)
    return 2


def _call(name: str, words: list[str]) -> int:
    run = load(_RUNNER, "run", "runner")
    try:
        return int(run(load(COMMANDS, name, "command"), name, words))
    except BedplateError as error:
        return _failed(error, "--json" in words)
    except OSError as error:
        fix = "check that the path is right, and that this user may use it"
        return _failed(BedplateError(error.strerror or str(error), value=error.filename, fix=fix), "--json" in words)


def _failed(error: BedplateError, as_json: bool) -> int:
    if as_json:
        places = {name: getattr(error, name) for name in ("file", "line", "field") if getattr(error, name, None)}
        told = {"what": error.what, "value": error.value, "fix": error.fix, **places}
        print(json.dumps({"error": told}, default=str))
    print(f"error: {error.one_line()}", file=sys.stderr)
    return 1


def _version() -> str:
    return str(load({"version": Entry("importlib.metadata:version", "")}, "version", "function")("bedplate"))


_RUNNER = {"run": Entry("bedplate.cli.command:run_command", "parses options with typer")}

if __name__ == "__main__":
    sys.exit(main())
