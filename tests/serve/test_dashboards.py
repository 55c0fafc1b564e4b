"""Alert rules and the dashboard that are shipped: rules fire as Prometheus computes them, and all metrics that they name are ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bedplate import serve
from bedplate.serve.router import Router

FOLDER = Path(serve.__file__).parent / "dashboards"
ALERTS = FOLDER / "endpoint-alerts.yaml"
NEEDED = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed here")


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    given = ",".join(f'{key}="{value}"' for key, value in {"endpoint": "delays", "model": "delay@1", **labels}.items())
    return {"series": f"bedplate_endpoint_{name}{{{given}}}", "values": values}


FAILS = [series("requests_total", "0+60x20", side="own"), series("errors_total", "0+3x20", side="own")]
FINE = [series("requests_total", "0+600x20", side="own"), series("errors_total", "0+1x20", side="own")]
SLOW = [
    series("latency_seconds_bucket", "0+10x20", side="own", le="1.0"),
    series("latency_seconds_bucket", "0+60x20", side="own", le="5.0"),
]
SLOW += [series("latency_seconds_bucket", "0+60x20", side="own", le="+Inf")]
NONE_LEFT = [series("replicas", "0x20"), series("replicas_wanted", "2x20")]
IDLE = [series("replicas", "0x20"), series("replicas_wanted", "0x20")]


@NEEDED
@pytest.mark.parametrize(
    ("given", "alert", "fires", "summary"),
    [
        (FAILS, "BedplateEndpointErrors", True, "delays fails at 5% of its requests"),
        (FINE, "BedplateEndpointErrors", False, ""),
        (SLOW, "BedplateEndpointSlow", True, "the slowest percent of delays takes 4.952s"),
        (NONE_LEFT, "BedplateEndpointWithoutReplicas", True, "no replica of delays answers, though some are wanted"),
        (IDLE, "BedplateEndpointWithoutReplicas", False, ""),
        (
            [series("requests_refused_total", "0+5x20")],
            "BedplateEndpointRefuses",
            True,
            "delays tells requests to come again: raise max or queue",
        ),
    ],
)
def test_an_alert_fires_when_it_should(tmp_path: Path, given: list[dict[str, str]], alert: str, fires: bool, summary: str) -> None:
    severity = {rule["alert"]: rule["labels"]["severity"] for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}
    labels = {"severity": severity[alert], "endpoint": "delays"}
    if alert in ("BedplateEndpointWithoutReplicas", "BedplateEndpointRefuses"):
        labels["model"] = "delay@1"
    expected = [{"exp_labels": labels, "exp_annotations": {"summary": summary}}] if fires else []
    test = {"interval": "1m", "input_series": given, "alert_rule_test": [{"eval_time": "15m", "alertname": alert, "exp_alerts": expected}]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    ran = subprocess.run(["promtool", "test", "rules", str(tmp_path / "test.yaml")], capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("file", sorted(FOLDER.iterdir()), ids=lambda file: file.name)
def test_every_metric_that_is_named_is_one_that_a_router_has(file: Path) -> None:
    said = Router("delays", "delay@1", [], hold=1, deadline_s=1).exposition()
    known = set(re.findall(r"^(bedplate_endpoint_\w+)", said, re.MULTILINE))
    named = set(re.findall(r"bedplate_endpoint_\w+", file.read_text()))
    assert named
    assert named <= known


def test_the_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    panels = json.loads((FOLDER / "endpoint-dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    queries = [target["expr"].replace("$endpoint", ".*") for panel in panels for target in panel["targets"]]
    rules = [{"record": f"asked:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed here")
    checked = subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yaml")], capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr
