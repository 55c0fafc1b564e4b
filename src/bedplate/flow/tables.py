"""The tables of what is loaded by name: launchers, and what a worker does for each kind of step.

Does not know: anything about the modules that it names; they are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Mapping

from bedplate.core.loading import Entry

LAUNCHERS: Mapping[str, Entry] = {
    "local": Entry("bedplate.cluster.engines.local:LocalLauncher", "processes on this machine"),
    "sim": Entry("bedplate.cluster.engines.sim:SimLauncher", "a simulated cluster with injected faults, for tests"),
    "slurm": Entry("bedplate.cluster.engines.slurm:SlurmLauncher", "batch jobs of Slurm, on a shared file system"),
    "kubernetes": Entry("bedplate.cluster.engines.kubernetes:KubernetesLauncher", "Jobs of Kubernetes, on a shared volume"),
    "ssh": Entry("bedplate.cluster.engines.ssh:SshLauncher", "processes on hosts that OpenSSH reaches"),
}

WORK: Mapping[str, Entry] = {
    "job": Entry("bedplate.flow.steps.job:work", "run a function or a command of the user's"),
    "ingest": Entry("bedplate.flow.steps.ingest:work", "bring a stream or a file into the lake, exactly once"),
    "transform": Entry("bedplate.flow.steps.transform:work", "make a table of other tables, by a query or a function"),
    "feature": Entry("bedplate.flow.steps.feature:work", "compute a feature view"),
    "training_set": Entry("bedplate.flow.steps.training_set:work", "join spine, label and features as of each row's time"),
    "train": Entry("bedplate.flow.steps.train:work", "train a model", "torch"),
    "model": Entry("bedplate.flow.steps.model:work", "bring a model in that was made elsewhere"),
    "gate": Entry("bedplate.flow.steps.gate:work", "evaluate a candidate and production on one pinned set", "torch"),
    "online": Entry("bedplate.flow.steps.online:work", "build the online store of an endpoint"),
    "endpoint": Entry("bedplate.flow.steps.serving:work", "answer over HTTP"),
}

EXPORTS: Mapping[str, Entry] = {
    "checkpoint": Entry("bedplate.train.checkpoints.export:export_committed", "a checkpoint as safetensors", "torch"),
    "version": Entry("bedplate.train.checkpoints.export:export_version", "a model version as safetensors", "torch"),
}

SERIES: Mapping[str, Entry] = {"series": Entry("bedplate.models.series:SeriesStore", "the columnar store of metrics")}

MESHING: Mapping[str, Entry] = {  # the planner takes 25 ms to import, and few jobs leave their mesh to it
    "pass": Entry("bedplate.flow.meshing:mesh_pass", "the plan with a mesh for each step that leaves it to the planner"),
    "choice": Entry("bedplate.flow.meshing:chosen_mesh", "the mesh of one job"),
}

QUERIES: Mapping[str, Entry] = {  # DuckDB takes 100 ms to import, and many projects have no query
    "parsed": Entry("bedplate.data.query:parsed", "what a query reads, and whether it is incremental"),
}

POLICY: Mapping[str, Entry] = {  # most projects declare neither pools nor policies
    "pools": Entry("bedplate.flow.pooling:pools_of", "this machine and the pools of pools.yaml"),
    "launcher": Entry("bedplate.flow.pooling:launcher_of", "the launcher of a pool that is not this machine"),
    "check": Entry("bedplate.flow.pooling:check_pool", "whether a pool is declared and its engine is here"),
    "admit": Entry("bedplate.flow.admitting:admit", "whether a step may run where it was placed"),
    "spent": Entry("bedplate.flow.billing:is_spent", "whether the budget has nothing left"),
    "stops": Entry("bedplate.flow.billing:stops", "requests to stop what a spent budget does not pay for any more"),
}

DECIDING: Mapping[str, Entry] = {  # cryptography takes 40 ms to import, and most launches decide nothing
    "signed": Entry("bedplate.flow.deciding:signed", "a decision with its signed statement"),
    "admitted": Entry("bedplate.flow.deciding:admitted", "whether an endpoint may serve a version"),
}

ROLLOUTS: Mapping[str, Entry] = {  # few endpoints declare one
    "event": Entry("bedplate.flow.rolling:event", "what a router said of its rollout, as an event; the alias is moved back first"),
}

SIGNING: Mapping[str, Entry] = {
    "sign": Entry("bedplate.core.heads:sign_head", "signs the head of the chain; cryptography takes 40 ms to import")
}
