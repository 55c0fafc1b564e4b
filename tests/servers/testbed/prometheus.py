"""Prometheus, its node exporter and its alert manager on loopback.

Does not know: what the metrics mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from servers.testbed.process import LOOPBACK, answers, free_ports, program, running, scratch


@dataclass(frozen=True)
class Endpoint:
    """One of the three, by its address: `host:port`, as Prometheus names a target."""

    address: str

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.address}"


@contextmanager
def prometheus(targets: Sequence[str] = (), alertmanager: str | None = None, rules: str = "") -> Iterator[Endpoint]:
    """Prometheus, scraping itself (job `prometheus`) and `targets` (job `targets`) five times a second.

    `rules`: the text of a rule file; alerts go to `alertmanager`, a `host:port`.
    """
    binary = program("prometheus", "prometheus")
    (port,) = free_ports(1)
    server = Endpoint(f"{LOOPBACK}:{port}")
    config: dict[str, object] = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
        "scrape_configs": [
            {"job_name": "prometheus", "static_configs": [{"targets": [server.address]}]},
            {"job_name": "targets", "static_configs": [{"targets": list(targets)}]},
        ],
    }
    if alertmanager:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    with scratch("prometheus") as directory:
        if rules:
            (directory / "rules.yml").write_text(rules)
            config["rule_files"] = [str(directory / "rules.yml")]
        (directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        argv = [binary, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
        argv += [f"--web.listen-address={server.address}"]
        with running(argv, directory, lambda: answers(f"{server.url}/-/ready")):
            yield server


@contextmanager
def node_exporter() -> Iterator[Endpoint]:
    """The exporter of this machine's own figures."""
    (port,) = free_ports(1)
    server = Endpoint(f"{LOOPBACK}:{port}")
    argv = [program("prometheus", "prometheus-node-exporter"), f"--web.listen-address={server.address}"]
    with scratch("exporter") as directory, running(argv, directory, lambda: answers(f"{server.url}/metrics")):
        yield server


@contextmanager
def alertmanager() -> Iterator[Endpoint]:
    """An alert manager that groups nothing and tells nobody: a test reads its alerts from its API."""
    binary = program("prometheus", "prometheus-alertmanager")
    (port,) = free_ports(1)
    server = Endpoint(f"{LOOPBACK}:{port}")
    with scratch("alerts") as directory:
        config = directory / "alertmanager.yml"
        config.write_text(json.dumps({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}))
        argv = [binary, f"--config.file={config}", f"--storage.path={directory}/data"]
        argv += [f"--web.listen-address={server.address}", "--cluster.listen-address="]  # no gossip port
        with running(argv, directory, lambda: answers(f"{server.url}/-/ready")):
            yield server
