"""A Kubernetes 1.20 control plane on loopback: etcd, apiserver, controller-manager and scheduler; nodes are objects only.

Does not know: kubelets. A pod is bound to a fake node by the real scheduler and stays Pending there.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from servers.testbed.process import (
    LOOPBACK,
    Missing,
    answers,
    free_ports,
    program,
    running,
    scratch,
    wait_until,
)

PATCH = "application/merge-patch+json"


@dataclass(frozen=True)
class Kubernetes:
    """`kubeconfig`: a file for any client, as cluster administrator. `ca`: what the server's certificate verifies with."""

    url: str
    token: str
    ca: Path
    kubeconfig: Path

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request; a PATCH is a merge patch. Raises `httpx.HTTPStatusError` when the server refuses."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            headers["Content-Type"] = PATCH if method == "PATCH" else "application/json"
        trust = ssl.create_default_context(cafile=str(self.ca))
        content = None if body is None else json.dumps(body)
        with httpx.Client(base_url=self.url, verify=trust, timeout=10, trust_env=False) as client:
            response = client.request(method, path, headers=headers, content=content)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    def has(self, path: str) -> bool:
        """Whether a GET of the path succeeds."""
        try:
            self.call("GET", path)
        except httpx.HTTPError:
            return False
        return True

    def add_node(self, name: str, gpus: int, labels: Mapping[str, str] | None = None) -> None:
        """A node object that is Ready and offers `nvidia.com/gpu`, 32 CPUs and 256 GiB, with nothing behind it."""
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
        self.call("POST", "/api/v1/nodes", {"metadata": metadata})
        amounts = {"cpu": "32", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
        ready = {"type": "Ready", "status": "True", "reason": "Fake", "message": "an object of the test bed"}
        status = {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
        self.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status})
        # admission taints a new node as not ready; the controller that would clear it is off (see `kubernetes`)
        self.call("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": None}})


@contextmanager
def kubernetes() -> Iterator[Kubernetes]:
    """A cluster without nodes, with RBAC on and the namespace `default` ready for pods."""
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    apiserver, controllers, scheduler = (_built(name) for name in names)
    etcd = program("etcd", "etcd")
    client_port, peer_port, port = free_ports(3)
    with scratch("kube") as directory, ExitStack() as servers:
        store = f"http://{LOOPBACK}:{client_port}"
        argv = _etcd(etcd, directory, store, f"http://{LOOPBACK}:{peer_port}")
        servers.enter_context(running(argv, directory, lambda: answers(f"{store}/health")))
        cluster = _credentials(directory, port)
        argv = [apiserver, *_apiserver_flags(directory, store, port)]
        ready = lambda: _is_whole(cluster.ca) and cluster.has("/api/v1/namespaces/default")  # noqa: E731 - one line, used once as an argument
        servers.enter_context(running(argv, directory, ready, start_s=60))
        common = [f"--kubeconfig={cluster.kubeconfig}", "--leader-elect=false", "--port=0", "--secure-port=0"]
        argv = [controllers, *common, f"--service-account-private-key-file={directory}/accounts.key"]
        # without kubelets there are no heartbeats: the controller that marks silent nodes must not run
        argv += [f"--root-ca-file={cluster.ca}", "--controllers=*,-nodelifecycle"]
        account = lambda: cluster.has("/api/v1/namespaces/default/serviceaccounts/default")  # noqa: E731 - one line, used once as an argument
        servers.enter_context(running(argv, directory, account))
        servers.enter_context(running([scheduler, *common], directory, lambda: True))
        wait_until(lambda: _has_token(cluster), "the default service account's token")
        yield cluster


def _built(name: str) -> str:
    """A server that `make servers` built, in its cache outside the checkout (see tools/servers.sh)."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    directory = os.environ.get("BEDPLATE_SERVERS_DIR") or f"{cache}/bedplate/servers"
    path = Path(directory, "bin", name)
    if not os.access(path, os.X_OK):
        raise Missing("kubernetes")
    return str(path)


def _etcd(etcd: str, directory: Path, client_url: str, peer_url: str) -> list[str]:
    argv = [etcd, "--name=testbed", f"--data-dir={directory}/etcd", f"--initial-cluster=testbed={peer_url}"]
    argv += [f"--listen-client-urls={client_url}", f"--advertise-client-urls={client_url}"]
    return [*argv, f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}"]


def _apiserver_flags(directory: Path, store: str, port: int) -> list[str]:
    key = f"{directory}/accounts.key"
    return [
        f"--etcd-servers={store}",
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        "--endpoint-reconciler-type=none",  # it would refuse to publish a loopback address
        f"--secure-port={port}",
        "--insecure-port=0",
        f"--cert-dir={directory}/certificates",
        f"--token-auth-file={directory}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={key}",
        f"--service-account-key-file={key}",
        "--service-cluster-ip-range=10.231.0.0/24",
        "--allow-privileged=true",
    ]


def _credentials(directory: Path, port: int) -> Kubernetes:
    """Keys and tokens of one administrator. The server makes its own certificate when it starts."""
    token = secrets.token_hex(16)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    ca = directory / "certificates" / "apiserver.crt"
    cluster = Kubernetes(f"https://{LOOPBACK}:{port}", token, ca, directory / "kubeconfig")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": {"server": cluster.url, "certificate-authority": str(ca)}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "admin"}}],
    }
    files = {"accounts.key": text, "tokens.csv": f'{token},admin,admin,"system:masters"\n', "kubeconfig": json.dumps(config)}
    for name, content in files.items():
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(content)
    return cluster


def _is_whole(certificate: Path) -> bool:
    """Whether the server has written all of its certificate: the file is there before its text is."""
    return certificate.is_file() and "END CERTIFICATE" in certificate.read_text()


def _has_token(cluster: Kubernetes) -> bool:
    """Admission refuses pods until the service account has its secret."""
    return bool(cluster.call("GET", "/api/v1/namespaces/default/serviceaccounts/default").get("secrets"))
