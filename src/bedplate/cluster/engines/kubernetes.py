"""The Kubernetes launcher: each attempt is one Job of one pod, whose first process is the shim.

The project and its state lie in a persistent volume that has the same path here and in the pods, so journals and outputs are simply there.
Pods satisfy the restricted level of the Pod Security Standards: no root, no privileges, no host paths. A Job never runs a second pod: a new
attempt goes on from the newest checkpoint, under a new fencing token. A Job has the attempt's own name, so it exists once.
`kubectl` is the client, with the user's own configuration. Fields of batch/v1 and core/v1, Kubernetes 1.20 and newer.
Does not know: what an attempt does, or why it is started or stopped.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from bedplate.cluster.remote_paths import with_python
from bedplate.cluster.wish import told, untold, wish
from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt, read_attempt
from bedplate.core.digest import digest
from bedplate.core.errors import BedplateError, SpecError, Unavailable
from bedplate.core.journal import JournalReader, JournalWriter
from bedplate.core.pools_file import DeclaredPool
from bedplate.core.protocols import Liveness, Rendered

JOB_FILE = "kubernetes.json"
WRITER = "engine"
OWNER, RUN, ATTEMPT = "app.kubernetes.io/managed-by", "bedplate.dev/run", "bedplate.dev/attempt"
KUEUE = "kueue.x-k8s.io/queue-name"
PYTHON = "python3"  # of the image
LIMIT_S = 8.0  # for one request: the loop waits for it
ASK_S = 0.5  # between two looks at the cluster
GRACE_S = 45  # from a stop notice to a kill: the shim's own grace, and time to write it down
NODE_GONE = frozenset({"NodeLost", "NodeShutdown", "Shutdown", "Terminated", "DeletionByTaintManager"})
PREEMPTED = frozenset({"Preempting", "Preempted", "Evicted", "PreemptionByScheduler", "PreemptionByKubeScheduler"})

Seen = dict[str, tuple[bool, dict[str, Any]]]  # by the Job's name: whether anything of it may run, and its newest pod


class KubernetesLauncher:
    """The launcher of one pool. Another instance, in another process, can poll and cancel what this one started."""

    name = "kubernetes"

    def __init__(self, pool: DeclaredPool, folder: Path) -> None:
        """`folder` is that of pools.yaml; nothing in it is needed. Raises SpecError where the pool lacks what a pod needs."""
        for field in ("image", "claim", "mount"):
            if not getattr(pool, field):
                raise SpecError("a pool of engine kubernetes needs it", field=field, fix=f"give the pool `{field}`")
        self._pool = pool
        self._folder = folder
        self._seen: tuple[float, Seen] = (-math.inf, {})

    def render(self, attempt: Attempt) -> Rendered:
        """What would be started in the pod. Pure; `manifest` gives the whole Job."""
        return Rendered(attempt.shim_argv, dict(attempt.environment), attempt.folder)

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        """Create the Job, once; returns its name, the attempt's folder and token. While nobody answers `poll` tries it again."""
        (attempt.path / "logs").mkdir(parents=True, exist_ok=True)
        write_json(attempt.path / ATTEMPT_FILE, with_python(attempt, self._pool.python or PYTHON).to_json())
        with suppress(Unavailable):
            self._create(attempt)
        return {"folder": attempt.folder, "token": attempt.token, "job": job_name(attempt)}

    def poll(self, handle: Mapping[str, Any]) -> Liveness:
        """`gone` when the Job is over or away and no pod of it may run; `unknown` when the cluster does not answer."""
        folder = Path(handle["folder"])
        try:
            self._pass_on(folder, handle["job"])
            self._create(read_attempt(folder))
            alive, pod = self._look().get(handle["job"], (False, {}))
        except Unavailable:
            return "unknown"
        if alive:
            return "alive"
        self._explain(folder, pod)
        return "gone"

    def logs(self, attempt: Attempt, rank: int) -> Iterator[str]:
        """The lines that a rank printed so far, in order."""
        path = attempt.log(rank)
        if path.exists():
            with path.open(errors="replace") as file:
                yield from (line.rstrip("\n") for line in file)

    def cancel(self, handle: Mapping[str, Any], how: Literal["stop", "cancel"]) -> None:
        """Delete the Job and its pod: `stop` with the time to write a checkpoint, `cancel` with one second. Harmless when gone.

        What the cluster does not hear now `poll` tells it again.
        """
        wish(Path(handle["folder"]), how)
        with suppress(Unavailable):
            self._pass_on(Path(handle["folder"]), handle["job"])

    def _pass_on(self, folder: Path, job: str) -> None:
        how = untold(folder)
        if not how:
            return
        if not (folder / JOB_FILE).exists():
            write_json(folder / JOB_FILE, {"job": ""})  # it was never created, and will not be
            if how == "stop":
                _note(folder, status="stopped", failure=None, message="before it was started")
        else:
            self._kubectl("delete", "job", job, "--ignore-not-found", "--cascade=orphan", "--wait=false")
            grace_s = GRACE_S if how == "stop" else 1
            self._kubectl("delete", "pod", f"--selector=job-name={job}", "--ignore-not-found", f"--grace-period={grace_s}", "--wait=false")
            self._seen = (-math.inf, {})
        told(folder, how)

    def _create(self, attempt: Attempt) -> None:
        """Create the Job unless that was done; a refusal ends the attempt. Raises Unavailable when nobody answers."""
        if (attempt.path / JOB_FILE).exists():
            return
        name = job_name(attempt)
        try:
            if not PurePosixPath(attempt.folder).is_relative_to(self._pool.mount):
                fix = "put the project and its state into the volume, or mend `mount`"
                raise SpecError("the project's state is not in the pool's volume", field="mount", value=self._pool.mount, fix=fix)
            self._kubectl("create", "--validate=false", "-f", "-", text=json.dumps(manifest(attempt, self._pool, os.getuid())))
        except Unavailable:
            raise
        except BedplateError as error:
            if "AlreadyExists" not in str(error.value):
                _note(attempt.path, status="failed", failure="user_error", message=error.one_line())
                name = ""
        write_json(attempt.path / JOB_FILE, {"job": name})
        self._seen = (-math.inf, {})

    def _look(self) -> Seen:
        """What there is of all attempts, not older than `ASK_S`. Raises Unavailable when the cluster does not answer."""
        if time.monotonic() - self._seen[0] > ASK_S:
            found = json.loads(self._kubectl("get", "jobs,pods", f"--selector={OWNER}=bedplate", "-o", "json"))["items"]
            self._seen = time.monotonic(), seen_in(found)
        return self._seen[1]

    def _explain(self, folder: Path, pod: Mapping[str, Any]) -> None:
        """Say what became of a pod that could not say it itself."""
        status, node = pod.get("status", {}), pod.get("spec", {}).get("nodeName", "")
        reasons = {status.get("reason", ""), *(each.get("reason", "") for each in status.get("conditions", ()))}
        if _ends(folder) or not reasons & (NODE_GONE | PREEMPTED):
            return
        if reasons & PREEMPTED:
            _note(folder, status="failed", failure="preempted", message=f"its pod was evicted from {node}")
        else:
            _note(folder, status="failed", failure="node_lost", message=f"the node {node} is gone", node=node)

    def _kubectl(self, *words: str, text: str = "") -> str:
        """What kubectl printed. Raises Unavailable when it is missing or nobody answers, and BedplateError when it is refused."""
        space = ("--namespace", self._pool.namespace) if self._pool.namespace else ()
        argv = ["kubectl", f"--context={self._pool.context}", *space, f"--request-timeout={LIMIT_S:g}s", *words]
        fix = f"see `kubectl --context={self._pool.context} get jobs`"
        try:
            done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=2 * LIMIT_S, check=False)
        except FileNotFoundError as error:
            raise Unavailable("pools of engine kubernetes need kubectl on this machine", fix="install kubectl") from error
        except subprocess.TimeoutExpired as error:
            raise Unavailable("the cluster does not answer", value=self._pool.context, fix=fix) from error
        if done.returncode == 0:
            return done.stdout
        said = " ".join(done.stderr.split())
        if "(" not in said:  # the server's own answers begin with "Error from server (Reason)"
            raise Unavailable("the cluster does not answer", value=said, fix=fix)
        raise BedplateError("Kubernetes refused", value=said, fix="mend the pool in pools.yaml, or what the job asks for")


def manifest(attempt: Attempt, pool: DeclaredPool, user: int) -> dict[str, Any]:
    """The Job of an attempt. Pure. `user` is who owns the files in the volume; root (0) is left to the image, which must not be root."""
    labels = {OWNER: "bedplate", RUN: _label(attempt.run), ATTEMPT: str(attempt.token)}
    asked = _resources(attempt, pool)
    container = {
        "name": "attempt",
        "image": pool.image,
        "command": list(with_python(attempt, pool.python or PYTHON).shim_argv),
        "env": [{"name": name, "value": value} for name, value in sorted(attempt.environment.items())],
        "resources": {"requests": asked, "limits": asked},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "project", "mountPath": pool.mount}, {"name": "memory", "mountPath": "/dev/shm"}],  # noqa: S108 - of the pod
    }
    owner = {"runAsUser": user, "fsGroup": user} if user else {}
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **owner},
        "containers": [container],
        "volumes": [
            {"name": "project", "persistentVolumeClaim": {"claimName": pool.claim}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
        **_elsewhere(attempt),
    }
    queued = {KUEUE: pool.queue} if pool.queue else {}
    space = {"namespace": pool.namespace} if pool.namespace else {}
    job = {"backoffLimit": 0, "completions": 1, "parallelism": 1, "template": {"metadata": {"labels": labels}, "spec": spec}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(attempt), "labels": {**labels, **queued}, **space},
        "spec": job,
    }


def job_name(attempt: Attempt) -> str:
    """The name of an attempt's Job: a DNS label of its own."""
    return f"{_label(attempt.run)[:40].strip('-.')}-{attempt.token}-{digest([attempt.folder])[:8]}"


def seen_in(items: list[dict[str, Any]]) -> Seen:
    """What Jobs and pods say together: something may run while a Job is not over, or a pod of it is not."""
    found: Seen = {}
    for item in (each for each in items if each["kind"] == "Job"):
        over = any(each["type"] in ("Complete", "Failed") and each["status"] == "True" for each in item["status"].get("conditions", ()))
        found[item["metadata"]["name"]] = (not over, {})
    for item in (each for each in items if each["kind"] == "Pod"):
        name = item["metadata"]["labels"].get("job-name", "")
        over = item["status"].get("phase") in ("Succeeded", "Failed")
        found[name] = (found.get(name, (False, {}))[0] or not over, item)
    return found


def _resources(attempt: Attempt, pool: DeclaredPool) -> dict[str, str]:
    """What the attempt asks for, in all, as Kubernetes writes amounts."""
    millis, mebibytes = math.ceil(attempt.asks.get("cpus", 1) * 1000), math.ceil(attempt.asks.get("memory_bytes", 2**30) / 2**20)
    devices = {pool.device: str(len(attempt.accelerators))} if attempt.accelerators else {}
    return {"cpu": f"{millis}m", "memory": f"{mebibytes}Mi", **devices}


def _elsewhere(attempt: Attempt) -> dict[str, Any]:
    """Nodes that were lost under earlier attempts are not used again."""
    if not attempt.excluded:
        return {}
    not_there = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": sorted(attempt.excluded)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [not_there]}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


def _label(text: str) -> str:
    """A text as the value of a label, and as a part of a name."""
    return re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")[:63] or "run"


def _ends(folder: Path) -> bool:
    return any(entry.kind == "ended" for entry in JournalReader(folder).read())


def _note(folder: Path, **body: Any) -> None:
    journal = JournalWriter(folder, WRITER)
    journal.write("ended", **body)
    journal.sync()
    journal.close()
