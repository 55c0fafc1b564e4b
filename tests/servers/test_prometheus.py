"""Prometheus scrapes, evaluates rules and tells the alert manager."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from servers.testbed.process import wait_until
from servers.testbed.prometheus import Endpoint, prometheus
from servers.testbed.provide import provide

DEAD = "127.0.0.1:1"  # nothing listens on port 1
RULES = """
groups:
- name: testbed
  rules:
  - {alert: TargetDown, expr: 'up{job="targets"} == 0', labels: {severity: page}}
"""


def get(server: Endpoint, path: str, **params: str) -> Any:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        response = client.get(path, params=params)
        response.raise_for_status()
        return response.json()


def values(server: Endpoint, query: str) -> dict[str, float]:
    """The newest value of every series of a query, by its instance."""
    result = get(server, "/api/v1/query", query=query)["data"]["result"]
    return {series["metric"]["instance"]: float(series["value"][1]) for series in result}


@pytest.fixture(scope="module", name="server")
def _server(node_exporter: Endpoint, alertmanager: Endpoint) -> Iterator[Endpoint]:
    targets = [node_exporter.address, DEAD]
    with provide(prometheus(targets, alertmanager=alertmanager.address, rules=RULES)) as server:
        yield server


def test_it_scrapes_itself_and_the_machine(server: Endpoint, node_exporter: Endpoint) -> None:
    expected = {server.address: 1.0, node_exporter.address: 1.0, DEAD: 0.0}
    wait_until(lambda: values(server, "up") == expected, "every target to be scraped")
    assert values(server, "node_memory_MemTotal_bytes")[node_exporter.address] > 1e8


def test_a_target_that_is_down_raises_an_alert(server: Endpoint, alertmanager: Endpoint) -> None:
    wait_until(lambda: len(get(alertmanager, "/api/v2/alerts")) == 1, "the alert to arrive")
    (alert,) = get(alertmanager, "/api/v2/alerts")
    assert alert["labels"] == {"alertname": "TargetDown", "instance": DEAD, "job": "targets", "severity": "page"}
