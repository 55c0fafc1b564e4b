"""A kubelet without containers: pods that are bound to its node run as processes of this machine, each in a process namespace of its own.

It reports what a kubelet reports, and ends a deleted pod as one does: a notice, the grace, the kill, and only then the object goes.
Does not know: images, volumes or limits; a container's command finds this machine's files.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import psutil

from servers.testbed.kubernetes import Kubernetes
from servers.testbed.process import SYSTEM_PATH, machine_of_its_own

STEP_S = 0.1


class HollowKubelet:
    """The kubelet of one node; `down` makes it fall silent, as a lost node does."""

    def __init__(self, cluster: Kubernetes, node: str) -> None:
        self.down = False
        self._cluster = cluster
        self._node = node
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._told: dict[str, float] = {}
        self._closed = threading.Event()

    def run(self) -> None:
        while not self._closed.wait(STEP_S):
            if not self.down:
                with suppress(httpx.HTTPError):  # the object changed meanwhile: the next step sees it
                    self._step()
        for process in self._running.values():
            process.kill()
            process.wait()

    def close(self) -> None:
        self._closed.set()

    def _step(self) -> None:
        for pod in self._cluster.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self._node}")["items"]:
            uid, phase = pod["metadata"]["uid"], pod["status"].get("phase")
            process = self._running.get(uid)
            if pod["metadata"].get("deletionTimestamp"):
                self._end(pod, process)
            elif process is None and phase == "Pending":
                self._running[uid] = _start(pod["spec"]["containers"][0])
                self._report(pod, "Running")
            elif process is not None and process.poll() is not None and phase == "Running":
                self._report(pod, "Failed" if process.returncode else "Succeeded")

    def _end(self, pod: dict[str, Any], process: subprocess.Popen[bytes] | None) -> None:
        uid = pod["metadata"]["uid"]
        if process is not None and process.poll() is None:
            if uid not in self._told:
                self._told[uid] = time.monotonic()
                for child in psutil.Process(process.pid).children():  # process 1 of the namespace is a shell
                    for first in child.children():
                        first.send_signal(signal.SIGTERM)
            elif time.monotonic() - self._told[uid] > pod["metadata"].get("deletionGracePeriodSeconds", 0):
                process.kill()
            return
        self._cluster.call("DELETE", _path(pod), {"gracePeriodSeconds": 0})

    def _report(self, pod: dict[str, Any], phase: str) -> None:
        self._cluster.call("PATCH", f"{_path(pod)}/status", {"status": {"phase": phase}})


def _start(container: dict[str, Any]) -> subprocess.Popen[bytes]:
    own = {each["name"]: each["value"] for each in container.get("env", ())}
    argv = machine_of_its_own(shlex.join(container["command"]))
    return subprocess.Popen(argv, env={"PATH": SYSTEM_PATH, **own}, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _path(pod: dict[str, Any]) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _claimed_volume(cluster: Kubernetes) -> None:
    """A volume and its claim, bound as the controller would bind them, which looks only every 15 s."""
    amount, claims = {"storage": "1Gi"}, "/api/v1/namespaces/default/persistentvolumeclaims"
    modes = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    bound = {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
    claim = {"metadata": {"name": "project", **bound}, "spec": {**modes, "resources": {"requests": amount}, "volumeName": "project"}}
    uid = cluster.call("POST", claims, claim)["metadata"]["uid"]
    owner = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": "project", "uid": uid}
    volume = {"metadata": {"name": "project"}, "spec": {**modes, "capacity": amount, "hostPath": {"path": "/"}, "claimRef": owner}}
    cluster.call("POST", "/api/v1/persistentvolumes", volume)
    cluster.call("PATCH", "/api/v1/persistentvolumes/project/status", {"status": {"phase": "Bound"}})
    status = {"phase": "Bound", "capacity": amount, "accessModes": modes["accessModes"]}
    cluster.call("PATCH", f"{claims}/project/status", {"status": status})


@contextmanager
def kubelet(cluster: Kubernetes, node: str) -> Iterator[HollowKubelet]:
    """A node with eight GPUs and its kubelet, and a volume that has this machine's files, claimed as `project`."""
    assert os.geteuid() == 0, "process namespaces need root"
    cluster.add_node(node, gpus=8)
    _claimed_volume(cluster)
    made = HollowKubelet(cluster, node)
    thread = threading.Thread(target=made.run, name=f"kubelet of {node}")
    thread.start()
    try:
        yield made
    finally:
        made.close()
        thread.join()
