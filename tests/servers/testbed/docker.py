"""A Docker daemon with its own containerd, data, socket and bridge, and a registry, on loopback.

The daemon writes no firewall rule and forwards nothing: containers reach one another and the host, and nothing beyond.

Does not know: images. `busybox_image` makes one from the machine's static busybox.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.testbed.process import (
    LOOPBACK,
    Missing,
    NeedsRoot,
    answers,
    free_ports,
    machine_of_its_own,
    output_of,
    program,
    running,
    scratch,
)

BUSYBOX = Path("/bin/busybox")


@dataclass(frozen=True)
class Docker:
    """`host`: the value for DOCKER_HOST."""

    host: str
    directory: Path

    @property
    def env(self) -> dict[str, str]:
        """What the docker command needs in its environment. No BuildKit: Debian ships no buildx."""
        return {"DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(self.directory / "client")}

    def client(self, *arguments: str) -> str:
        """What `docker ...` prints; raises `AssertionError` when it fails."""
        return output_of([program("docker", "docker"), *arguments], self.env)

    def remove_all(self) -> None:
        """End and remove every container."""
        for container in self.client("ps", "--all", "--quiet").split():
            self.client("rm", "--force", container)

    def busybox_image(self, tag: str) -> None:
        """Build an image that holds busybox and nothing else."""
        with scratch("image") as context:
            shutil.copy(BUSYBOX, context / "busybox")
            (context / "Dockerfile").write_text('FROM scratch\nCOPY busybox /bin/busybox\nENTRYPOINT ["/bin/busybox"]\n')
            self.client("build", "--quiet", "--tag", tag, str(context))


@contextmanager
def docker() -> Iterator[Docker]:
    """One daemon without images. Needs root."""
    daemon, containerd = program("docker", "dockerd"), program("docker", "containerd")
    program("docker", "runc")
    if not BUSYBOX.exists():
        raise Missing("busybox-static")
    if os.geteuid() != 0:
        raise NeedsRoot("docker")
    with scratch("docker") as directory, _bridge() as bridge:
        address = directory / "containerd.sock"
        config = directory / "containerd.toml"
        config.write_text(
            f'version = 2\nroot = "{directory}/c-root"\nstate = "{directory}/c-run"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{address}"\n'
        )
        settings = directory / "daemon.json"
        settings.write_text("{}")
        socket = directory / "docker.sock"
        server = Docker(f"unix://{socket}", directory)
        argv = [daemon, f"--config-file={settings}", f"--host={server.host}", f"--containerd={address}"]
        argv += [f"--data-root={directory}/data", f"--exec-root={directory}/run", f"--pidfile={directory}/docker.pid"]
        argv += [f"--bridge={bridge}", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        both = machine_of_its_own(f"{containerd} --config={config} & {shlex.join(argv)}")
        with running(both, directory, lambda: _up(server), stop=signal.SIGKILL):
            yield server
            server.remove_all()  # the kernel would end them too, but their control groups would stay


def _up(server: Docker) -> bool:
    info = [program("docker", "docker"), "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(info, env={**os.environ, **server.env}, capture_output=True, check=False).returncode == 0


@contextmanager
def _bridge() -> Iterator[str]:
    """A bridge of our own: the machine's docker0, if it has one, stays as it is."""
    ip = program("docker", "ip")
    name = f"bp{secrets.token_hex(4)}"
    subnet = f"172.{random.randrange(18, 31)}.{random.randrange(256)}"
    output_of([ip, "link", "add", name, "type", "bridge"])
    try:
        output_of([ip, "address", "add", f"{subnet}.1/24", "dev", name])
        output_of([ip, "link", "set", name, "up"])
        yield name
    finally:
        output_of([ip, "link", "delete", name])


@contextmanager
def registry() -> Iterator[str]:
    """An image registry; gives its `host:port`. Docker allows plain HTTP to loopback."""
    binary = program("docker-registry", "docker-registry")
    (port,) = free_ports(1)
    with scratch("registry") as directory:
        config = directory / "config.yml"
        settings = {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": f"{directory}/data"}, "delete": {"enabled": True}},
            "http": {"addr": f"{LOOPBACK}:{port}"},
        }
        config.write_text(json.dumps(settings))
        with running([binary, "serve", str(config)], directory, lambda: answers(f"http://{LOOPBACK}:{port}/v2/")):
            yield f"{LOOPBACK}:{port}"
