"""From a planned step to an attempt: what a run records of its surroundings, and what its worker is told."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bedplate.core.attempt import Attempt, read_attempt
from bedplate.core.digest import digest
from bedplate.core.errors import BedplateError
from bedplate.core.event import Draft
from bedplate.flow.facts import gather
from bedplate.flow.launching import environment, make_attempt, run_created, waivers
from bedplate.flow.moving import trust
from bedplate.flow.planner import plan, plan_steps, steps_for
from bedplate.train.mesh import Mesh
from flow.world import SHOP, Told, World, checkpoint, ended


def created(world: World, step: str) -> Draft:
    """The event that a run of this step would begin with now."""
    workspace = world.workspace
    steps = steps_for(workspace.project.spec, [step])
    facts = gather(workspace, steps)
    planned = plan_steps("shop", [step], steps, facts, [step])
    outputs = {need: facts.made[need][0] for need in planned.step(step).step.needs if facts.made[need]}
    return run_created(workspace, "run-1", planned.step(step), outputs, facts)


def test_a_run_records_what_it_is_made_of(world: World) -> None:
    world.drive("run", "fit")
    draft = created(world, "fit")
    made = draft.payload
    assert (draft.subject, draft.key, made["launch"], made["why"]) == ("fit-2", "created/fit-2", "run-1", "forced")
    assert made["fingerprint"] == digest(made["components"])
    assert made["inputs"] == {"fit.inputs": "fit.inputs@1"}
    assert (made["params"], made["resources"]["cpus"], made["placement"]["world_size"]) == ({"lr": 0.1}, 0.2, 1)
    assert (
        made["spec"]["checkpoint"] == {"tiers": ["disk"], "keep": {"last": 2, "every": 0}, "every_s": 30.0}
        and made["spec"]["max_time_s"] is None
    )
    assert made["hardware"]["cores"] >= 1 and made["environment"] == environment(world.workspace.state / "environment.json")
    assert made["resume"] is None


def test_the_code_that_runs_is_the_snapshot_that_was_recorded(world: World) -> None:
    world.drive("run", "fit.inputs")
    code = created(world, "fit").payload["code"]
    assert code["files"] == ["fit.py"]
    assert (world.workspace.code_store / code["snapshot"] / "fit.py").read_text() == (world.folder / "fit.py").read_text()


def test_a_gate_is_given_the_version_in_production_too(world: World) -> None:
    world.drive("run", "fit")
    assert set(created(world, "price").payload["inputs"]) == {"price", "fit.inputs"}
    world.drive("up", "price")
    assert created(world, "price").payload["inputs"]["production"] == "price@1"


def test_an_endpoint_whose_model_was_held_cannot_start(world: World) -> None:
    world.rmse = 9.0
    world.drive("up", "price", "prices.features")
    with pytest.raises(BedplateError, match=r"no version of 'price' is in production: the gate held it \(got 'not promoted: rmse <= 5'\)"):
        created(world, "prices")


@pytest.mark.parametrize("status", ["stopped", "failed"])
def test_a_run_goes_on_from_the_checkpoint_of_the_last_one_that_did_not_succeed(world: World, status: str) -> None:
    def halts(attempt: object) -> Told:
        return [checkpoint(4), ended("failed", "user_error", "x")] if status == "failed" else [checkpoint(4), (1e6, "ended", {})]

    world.scripts["fit"] = halts
    launch = world.ask("run", "fit")
    with world.loop() as loop:
        world.tick(loop, lambda: len(world.events("checkpoint.committed")) == 1)
        if status == "stopped":
            world.workspace.ledger.append([Draft("stop.requested", "fit-1", {"how": "stop", "why": ""})])
        world.tick(loop, lambda: world.launch(launch).status != "open")
    assert created(world, "fit").payload["resume"]["step"] == 4
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.2"))
    assert created(world, "fit").payload["resume"] is None, "another fingerprint has nothing to go on with"


def test_limits_of_the_job_are_told_to_its_run(world: World) -> None:
    world.declare(SHOP.replace("max_restarts: 2", "max_restarts: 7, max_time: 2m, checkpoint: 5s"))
    made = created(world, "make").payload
    assert (made["max_restarts"], made["spec"]["max_time_s"], made["spec"]["checkpoint"]["every_s"]) == (7, 120.0, 5.0)


def test_how_a_model_is_computed_is_told_to_its_run(world: World) -> None:
    plain = created(world, "make").payload["spec"]
    assert "mesh" not in plain
    settings = {"precision": "fp32", "accumulate": 1, "activation_checkpointing": False, "compile": False}
    assert {name: plain[name] for name in settings} == settings
    world.declare(SHOP.replace("max_restarts: 2", "max_restarts: 2, mesh: {shard: 1, schedule: GPipe}, precision: bf16, accumulate: 3"))
    told = created(world, "make").payload["spec"]
    assert (told["precision"], told["accumulate"]) == ("bf16", 3)
    assert told["mesh"] == {"shard": 1, "tensor": 1, "pipeline": 1, "context": 1, "schedule": "GPipe"}


PLANNED = (
    "max_restarts: 2, mesh: auto, architecture: {layers: 4, hidden: 32, heads: 4, kv_heads: 2, ffn: 64, vocab: 512, sequence: 32, batch: 6,"
    " axes: [data, tensor, pipeline]}, resources: {workers: %d, cpus: 0.1}"
)


def test_the_mesh_that_the_planner_chose_is_what_the_run_is_told(world: World) -> None:
    world.declare(SHOP.replace("max_restarts: 2, resources: {cpus: 0.2}", PLANNED % 8))
    made = created(world, "make").payload
    assert made["spec"]["mesh"] == {"data": 2, "tensor": 2, "pipeline": 2, "micro_batches": 3}
    assert made["spec"]["planned"]["mesh"] == made["spec"]["mesh"]
    assert any("pipeline=4" in name for name in made["spec"]["planned"]["others"])
    assert plan(world.workspace, ["make"]).step("make").training == made["spec"]["planned"], "the plan shows what the run will have"


def test_other_workers_have_another_mesh_and_go_on_from_the_checkpoint(world: World) -> None:
    world.declare(SHOP.replace("max_restarts: 2, resources: {cpus: 0.2}", PLANNED % 8))
    world.scripts["make"] = lambda _: [checkpoint(4), ended("failed", "user_error", "x")]
    world.drive("run", "make")
    world.declare(SHOP.replace("max_restarts: 2, resources: {cpus: 0.2}", PLANNED % 2))
    again = created(world, "make").payload
    assert Mesh.of(again["spec"]["mesh"], 2).pipeline == 1, "planned anew, for two"
    assert again["resume"]["step"] == 4, "the mesh is no part of the fingerprint; a checkpoint loads under any"


def test_an_attempt_of_a_command_runs_a_shell_in_every_process(world: World) -> None:
    world.declare(SHOP.replace("resources: {cpus: 0.2}}\n  other", "resources: {workers: 3, cpus: 0.2}}\n  other"))
    world.drive("run", "make")
    attempt = make_attempt(world.workspace, world.run("make"), 2, {"step": 1})
    assert attempt.argv == ("/bin/sh", "-c", "true")
    assert (attempt.processes, attempt.world_size, attempt.token, attempt.restart) == (3, 3, 2, False)
    assert Path(attempt.folder) == world.workspace.attempt_folder("make-1", 2)
    assert attempt.checkpoint == {"step": 1}
    assert attempt.root == attempt.code == str(world.folder)


def test_an_attempt_of_a_function_runs_one_worker_on_the_recorded_code(world: World) -> None:
    world.drive("up")
    attempt = make_attempt(world.workspace, world.run("fit"), 1, None)
    assert attempt.argv == (sys.executable, "-m", "bedplate.flow.worker", attempt.folder)
    assert attempt.shim_argv == (sys.executable, "-m", "bedplate.flow.shim", attempt.folder)
    assert attempt.processes == 1
    assert Path(attempt.code) == world.workspace.code_store / world.run("fit").made["code"]["snapshot"]
    given = attempt.inputs["fit.inputs"]
    assert (given["number"], Path(given["path"]).read_text()) == (1, "1")
    assert make_attempt(world.workspace, world.run("prices"), 1, None).restart, "an endpoint is kept up"


def test_a_package_that_is_installed_meanwhile_is_in_the_next_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = environment(tmp_path / "memory.json")
    assert environment(tmp_path / "memory.json") == before
    info = tmp_path / "bolts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bolts\nVersion: 1.0\n")
    os.utime(tmp_path, ns=(2, 2))
    after = environment(tmp_path / "memory.json")
    assert after["packages"] == before["packages"] + 1 and after["lock"] != before["lock"]


def test_a_machine_that_was_lost_is_not_used_again_by_the_next_attempt(world: World) -> None:
    def script(attempt: Attempt) -> Told:
        lost = (0.2, "ended", {"status": "failed", "failure": "node_lost", "message": "gone", "node": f"node-{attempt.token}"})
        return [lost] if attempt.token < 3 else [ended()]

    world.scripts["other"] = script
    world.drive("run", "other")
    assert [attempt.excluded for attempt in world.attempts if attempt.step == "other"] == [(), ("node-1",), ("node-1", "node-2")]
    assert read_attempt(world.workspace.attempt_folder("other-1", 3)).excluded == ("node-1", "node-2")


def test_the_packages_of_an_environment_are_kept_by_their_digest(tmp_path: Path) -> None:
    known = environment(tmp_path / "memory.json")
    packages = json.loads((tmp_path / "environments" / f"{known['lock']}.json").read_text())
    assert len(packages) == known["packages"] and digest(packages) == known["lock"]


def test_a_gate_that_names_a_drift_is_given_the_training_set_of_production(world: World) -> None:
    world.drive("up", "price")
    world.contents |= {"fit.inputs": "2", "fit": "2"}
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.2").replace("rmse <= 5", "drift.psi(shop) < 0.2"))
    world.drive("up", "price", force=("fit.inputs",))
    gate = [attempt for attempt in world.attempts if attempt.step == "price"][-1]
    assert {name: f"{given['name']}@{given['number']}" for name, given in gate.inputs.items()} == {
        "price": "price@2",
        "fit.inputs": "fit.inputs@2",
        "production": "price@1",
        "production.inputs": "fit.inputs@1",
    }


def test_only_an_endpoint_asks_for_a_decision(world: World) -> None:
    world.drive("up", "price", "prices.features")
    steps = {step.name: step for step in steps_for(world.workspace.project.spec, ["prices"])}
    assert waivers(world.workspace, steps["price"], created(world, "price")) == []
    assert waivers(world.workspace, steps["prices"], created(world, "prices")) == [], "its decision is signed and holds"


def test_a_run_that_may_make_a_model_is_told_which_files_are_trusted_and_what_its_code_imports(world: World) -> None:
    (world.folder / "tool.py").write_text("import numpy\n")
    world.declare(SHOP.replace('other: {command: "sleep 1"', 'other: {command: "python tool.py"'))
    assert "trusted" not in created(world, "other").payload["spec"]
    assert set(created(world, "other").payload["spec"]["packages"]) == {"numpy"}
    before = created(world, "other").payload["fingerprint"]
    trust(world.workspace, "ab" * 32, "our own")
    spec = created(world, "other").payload
    assert (spec["spec"]["trusted"], spec["fingerprint"]) == (["ab" * 32], before), "trust is no part of what a run is"


def test_a_job_is_given_the_version_that_the_alias_of_its_base_points_to(world: World) -> None:
    world.declare(SHOP.replace("  other: {", "  tune: {function: fit.py:fit, base: price, resources: {cpus: 0.2}}\n  other: {"))
    world.drive("up", "price")
    assert created(world, "tune").payload["inputs"] == {"price": "price@1"}


def test_a_job_whose_base_was_held_by_the_gate_cannot_start(world: World) -> None:
    world.declare(SHOP.replace("  other: {", "  tune: {function: fit.py:fit, base: price, resources: {cpus: 0.2}}\n  other: {"))
    world.rmse = 9.0
    world.drive("up", "price")
    with pytest.raises(BedplateError, match=r"no version of 'price' is in its alias: the gate held it"):
        created(world, "tune")


def test_an_attempt_says_what_all_its_processes_need_and_a_scheduler_hands_out_devices(world: World) -> None:
    pools = "pools: {{farm: {{engine: {engine}, {place}capacity: {{cores: 8, memory_gb: 64, accelerators: 4, accelerator: H100}}}}}}\n"
    resources = '{workers: 2, cpus: 1.5, memory_gb: 2, accelerators: "H100:1"}'
    world.declare(SHOP.replace('command: "sleep 1", resources: {cpus: 0.2}', f'command: "sleep 1", resources: {resources}'))
    seen = {}
    for engine, place in (("sim", ""), ("slurm", "partition: main, ")):
        (world.folder / "pools.yaml").write_text(pools.format(engine=engine, place=place))
        event = created(world, "other")
        world.workspace.ledger.append([event])
        seen[engine] = make_attempt(world.workspace, world.workspace.refresh().run(event.subject), 1, None)
        assert event.payload["hardware"]["devices"] == ["H100"] * 4
    assert dict(seen["sim"].asks) == dict(seen["slurm"].asks) == {"cpus": 3.0, "memory_bytes": 4e9}
    assert seen["sim"].accelerators == seen["slurm"].accelerators == (0, 1)
    assert seen["sim"].environment["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "CUDA_VISIBLE_DEVICES" not in seen["slurm"].environment
