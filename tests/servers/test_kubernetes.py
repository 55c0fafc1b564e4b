"""The control plane admits, schedules and refuses as a real one does; nodes are objects only."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from servers.testbed.kubernetes import Kubernetes
from servers.testbed.process import wait_until

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module", name="node")
def _node(kubernetes: Kubernetes) -> str:
    kubernetes.add_node("gpu-1", gpus=8, labels={"gpu": "fake"})
    return "gpu-1"


def pod(name: str, gpus: int) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus)}
    container = {"name": "main", "image": "trainer", "resources": {"limits": limits}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}


def scheduled(kubernetes: Kubernetes, name: str) -> dict[str, Any]:
    """The pod's condition PodScheduled, or nothing yet."""
    conditions = kubernetes.call("GET", f"{PODS}/{name}")["status"].get("conditions", [])
    return next((each for each in conditions if each["type"] == "PodScheduled"), {})


def test_the_scheduler_binds_by_gpu_and_says_why_it_cannot(kubernetes: Kubernetes, node: str) -> None:
    kubernetes.call("POST", PODS, pod("fits", 6))
    wait_until(lambda: scheduled(kubernetes, "fits").get("status") == "True", "the pod to be bound")
    assert kubernetes.call("GET", f"{PODS}/fits")["spec"]["nodeName"] == node
    kubernetes.call("POST", PODS, pod("waits", 4))
    wait_until(lambda: scheduled(kubernetes, "waits").get("status") == "False", "the pod to be refused")
    assert "Insufficient nvidia.com/gpu" in scheduled(kubernetes, "waits")["message"]
    kubernetes.call("DELETE", f"{PODS}/fits", {"gracePeriodSeconds": 0})
    wait_until(lambda: scheduled(kubernetes, "waits").get("status") == "True", "the freed GPUs to be used")
    kubernetes.call("DELETE", f"{PODS}/waits", {"gracePeriodSeconds": 0})


def test_a_job_makes_its_pods(kubernetes: Kubernetes, node: str) -> None:
    template = {"metadata": {"labels": {"job": "train"}}, "spec": {**pod("x", 1)["spec"], "restartPolicy": "Never"}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}}
    jobs = "/apis/batch/v1/namespaces/default/jobs"
    kubernetes.call("POST", jobs, {**job, "spec": {"parallelism": 3, "completions": 3, "template": template}})

    def bound() -> list[str]:
        items = kubernetes.call("GET", f"{PODS}?labelSelector=job%3Dtrain")["items"]
        return [item["spec"]["nodeName"] for item in items if item["spec"].get("nodeName")]

    wait_until(lambda: bound() == [node] * 3, "three bound pods")
    kubernetes.call("DELETE", f"{jobs}/train", {"propagationPolicy": "Background"})


def test_a_custom_resource_is_checked_by_its_schema(kubernetes: Kubernetes) -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"workers": {"type": "integer"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {
        "group": "test.bedplate.dev",
        "scope": "Namespaced",
        "names": {"plural": "trains", "singular": "train", "kind": "Train"},
        "versions": [version],
    }
    definition = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    kubernetes.call("POST", definitions, {**definition, "metadata": {"name": "trains.test.bedplate.dev"}, "spec": spec})
    trains = "/apis/test.bedplate.dev/v1/namespaces/default/trains"
    wait_until(lambda: kubernetes.has(trains), "the new resource to be served")
    train = {"apiVersion": "test.bedplate.dev/v1", "kind": "Train", "metadata": {"name": "a"}}
    made = kubernetes.call("POST", trains, {**train, "spec": {"workers": 2}})
    assert made["spec"] == {"workers": 2}
    with pytest.raises(httpx.HTTPStatusError, match="422"):
        kubernetes.call("POST", trains, {**train, "metadata": {"name": "b"}, "spec": {"workers": "two"}})


def test_without_the_token_nothing_is_listed(kubernetes: Kubernetes) -> None:
    stranger = Kubernetes(kubernetes.url, "guess", kubernetes.ca, kubernetes.kubeconfig)
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        stranger.call("GET", PODS)
