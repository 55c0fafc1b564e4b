"""`bedplate ask`.

Does not know: how an endpoint answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from bedplate.cli.command import AsJson, ProjectFolder, parse_pairs, show
from bedplate.core.errors import BedplateError, NotFound, Unavailable, nearest
from bedplate.core.settings import key_headers
from bedplate.core.source import parse_value
from bedplate.flow.facts import serving
from bedplate.flow.workspace import Workspace, open_workspace

TIMEOUT_S = 30.0


def ask(
    endpoint: Annotated[str, typer.Argument(help="an endpoint that is up")],
    fields: Annotated[list[str] | None, typer.Argument(help="the request, as NAME=VALUE ...")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Send one request to an endpoint and print its answer.

    Example: bedplate ask delay-api carrier=UA flight=1545 origin=EWR time_hour=2013-01-01T10:00:00Z
    """
    request = {name: _value(text) for name, text in parse_pairs(fields or [], "ask").items()}
    with open_workspace(project) as workspace:
        address = _address(workspace, endpoint)
    answer = _post(endpoint, f"{address}/predict", request)
    text = "\n".join(f"{name}: {value}" for name, value in answer.items())
    show(answer, f"{text}\n\nnext: bedplate lineage {answer['id']}", as_json)


def _post(endpoint: str, url: str, request: Mapping[str, Any]) -> dict[str, Any]:
    fix = f"see `bedplate explain {endpoint}` and `bedplate logs {endpoint}`; `bedplate up` starts it again"
    try:
        response = httpx.post(url, json=request, headers=key_headers(), timeout=TIMEOUT_S)
        answer: dict[str, Any] = response.json()
    except (httpx.HTTPError, ValueError) as error:  # it died a moment ago, hangs, or something else has its port
        raise Unavailable("the endpoint does not answer", value=f"{url}: {error}", fix=fix) from error
    if response.status_code != 200:
        said = answer["error"]
        raise BedplateError(said["what"], value=said.get("value"), fix=said.get("fix"))
    return answer


def _value(text: str) -> str | int | float | bool | None:
    value = parse_value(text)
    return value if isinstance(value, int | float | bool) or value is None else text  # dates stay text


def _address(workspace: Workspace, endpoint: str) -> str:
    declared = workspace.project.spec.endpoints
    if endpoint not in declared:
        raise NotFound("the project declares no such endpoint", value=endpoint, fix=nearest(endpoint, declared))
    live = serving(workspace, endpoint)
    if not live:
        raise Unavailable("the endpoint is not up", value=endpoint, fix="bring it up: `bedplate up`")
    return f"http://127.0.0.1:{live[-1].port}"
