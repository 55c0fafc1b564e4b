"""The Kubernetes launcher beyond what every launcher promises: the Job as a restricted cluster takes it, and what the cluster decides."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bedplate.cluster.engines.kubernetes import KubernetesLauncher, job_name, manifest, seen_in
from bedplate.core.attempt import Attempt
from bedplate.core.errors import SpecError
from bedplate.core.pools_file import Capacity, DeclaredPool
from cluster.rig import FOREVER, attempt_in, ended, journal_of, printed, wait_until
from servers.testbed.kubelet import HollowKubelet
from servers.testbed.kubernetes import Kubernetes

POOL = DeclaredPool(
    engine="kubernetes", context="testbed", capacity=Capacity(), image="shop@sha256:0", claim="project", mount="/tmp", python=sys.executable
)
JOBS = "/apis/batch/v1/namespaces/default/jobs"


@pytest.fixture
def launcher(kubernetes: Kubernetes, kubelet: HollowKubelet, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesLauncher]:
    """A launcher whose kubectl finds the test bed's cluster."""
    monkeypatch.setenv("KUBECONFIG", str(kubernetes.kubeconfig))
    yield KubernetesLauncher(POOL, Path())
    kubelet.down = False


def ends_of(attempt: Attempt) -> list[tuple[str, str | None]]:
    return [(entry.body["status"], entry.body["failure"]) for entry in journal_of(attempt) if entry.kind == "ended"]


def pod_of(made: dict[str, Any]) -> dict[str, Any]:
    spec = made["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def test_a_job_asks_for_all_that_the_attempt_needs(tmp_path: Path) -> None:
    attempt = attempt_in(
        tmp_path, accelerators=(0, 1), asks={"cpus": 2.5, "memory_bytes": 4e9}, excluded=("n2", "n1"), environment={"B": "2", "A": "1"}
    )
    attempt = replace(attempt, run="Train.Delay-7", shim_argv=(sys.executable, "-m", "bedplate.flow.shim", attempt.folder))
    pool = POOL.model_copy(update={"python": "", "namespace": "shop", "queue": "team", "device": "amd.com/gpu"})
    made = manifest(attempt, pool, 1000)
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == (job_name(attempt), "shop")
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    (container,) = pod_of(made)["containers"]
    assert container["command"] == ["python3", "-m", "bedplate.flow.shim", attempt.folder]
    assert container["resources"]["limits"] == {"cpu": "2500m", "memory": "3815Mi", "amd.com/gpu": "2"}
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    (term,) = pod_of(made)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n1", "n2"]}]
    assert made["spec"]["backoffLimit"] == 0


@pytest.mark.parametrize("user", [0, 1000])
def test_a_pod_is_what_the_restricted_level_allows(tmp_path: Path, user: int) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, field by field."""
    spec = pod_of(manifest(attempt_in(tmp_path), POOL, user))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"].get("runAsUser") == (user or None)
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert spec["automountServiceAccountToken"] is False


def test_names_are_dns_labels_and_differ_by_attempt(tmp_path: Path) -> None:
    long = replace(attempt_in(tmp_path), run="A" * 90 + ".inputs-1")
    names = {job_name(long), job_name(replace(long, token=2)), job_name(replace(long, folder="/elsewhere"))}
    assert len(names) == 3
    assert all(len(name) <= 63 and name.strip("-") == name and name == name.lower() for name in names)


def test_a_pool_that_lacks_what_a_pod_needs_is_refused() -> None:
    for field in ("image", "claim", "mount"):
        with pytest.raises(SpecError, match=field):
            KubernetesLauncher(POOL.model_copy(update={field: ""}), Path())


def test_something_may_run_while_a_pod_of_a_deleted_job_is_there() -> None:
    pod = {"kind": "Pod", "metadata": {"labels": {"job-name": "a"}}, "status": {"phase": "Running"}}
    job = {"kind": "Job", "metadata": {"name": "b"}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    over = {"kind": "Pod", "metadata": {"labels": {"job-name": "b"}}, "status": {"phase": "Succeeded"}}
    assert {name: alive for name, (alive, _) in seen_in([pod, job, over]).items()} == {"a": True, "b": False}


def test_the_server_stores_every_field_that_is_written(launcher: KubernetesLauncher, kubernetes: Kubernetes, tmp_path: Path) -> None:
    """What a server does not know it drops: the Job that it would store has to have all that the manifest has."""
    attempt = attempt_in(tmp_path, accelerators=(0,), excluded=("n1",), environment={"A": "1"})
    made = manifest(attempt, POOL.model_copy(update={"queue": "team"}), 1000)
    stored = kubernetes.call("POST", f"{JOBS}?dryRun=All", made)
    assert _missing(made, stored, "") == []


def _missing(wanted: Any, there: Any, path: str) -> list[str]:
    if isinstance(wanted, dict):
        return [each for name, value in wanted.items() for each in _missing(value, (there or {}).get(name), f"{path}.{name}")]
    if isinstance(wanted, list):
        pairs = zip(wanted, there or [None] * len(wanted), strict=True)
        return [each for index, (value, other) in enumerate(pairs) for each in _missing(value, other, f"{path}[{index}]")]
    same = wanted == there or json.dumps(wanted) == json.dumps(there) or str(there) == {"2500m": "2500m", "1000m": "1"}.get(str(wanted))
    return [] if same or (str(wanted).endswith("Mi") and there is not None) else [f"{path}: {wanted!r} became {there!r}"]


def test_what_the_cluster_refuses_ends_the_attempt_with_its_words(launcher: KubernetesLauncher, tmp_path: Path) -> None:
    for token, changes in ((1, {"namespace": "nowhere"}), (2, {"mount": "/elsewhere"})):
        attempt = attempt_in(tmp_path, token=token)
        refused = KubernetesLauncher(POOL.model_copy(update=changes), Path())
        handle = refused.submit(attempt)
        assert refused.poll(handle) == "gone"
        assert ends_of(attempt) == [("failed", "user_error")]


def test_a_silent_cluster_kills_nothing_and_hears_a_stop_later(
    launcher: KubernetesLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    handle = launcher.submit(attempt)
    wait_until(lambda: printed(attempt))
    unmade = attempt_in(tmp_path, "print('late')", token=2)
    with monkeypatch.context() as silent:
        silent.setenv("PATH", "/nowhere")
        late = launcher.submit(unmade)
        launcher.cancel(handle, "stop")
        assert [launcher.poll(each) for each in (handle, late)] == ["unknown", "unknown"]
    wait_until(lambda: launcher.poll(handle) == launcher.poll(late) == "gone")
    assert ended(attempt)["status"] == "stopped"
    assert printed(unmade) == ["late"]


def test_an_evicted_pod_is_a_preemption(
    launcher: KubernetesLauncher, kubernetes: Kubernetes, kubelet: HollowKubelet, tmp_path: Path
) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    handle = launcher.submit(attempt)
    wait_until(lambda: printed(attempt))
    kubelet.down = True  # and what it can say no more its node's controller says
    pods = kubernetes.call("GET", f"/api/v1/namespaces/default/pods?labelSelector=job-name%3D{handle['job']}")["items"]
    name = pods[0]["metadata"]["name"]
    gone = {"status": {"phase": "Failed", "reason": "Evicted"}}
    kubernetes.call("PATCH", f"/api/v1/namespaces/default/pods/{name}/status", gone)
    wait_until(lambda: launcher.poll(handle) == "gone")
    assert ends_of(attempt) == [("failed", "preempted")]
