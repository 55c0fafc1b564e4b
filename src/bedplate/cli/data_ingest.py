"""`bedplate data ingest`.

Does not know: how records become rows.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder
from bedplate.core.errors import Busy
from bedplate.flow.following import Standing, exposition, follow
from bedplate.flow.workspace import open_workspace

LOOPBACK = "127.0.0.1"


def data_ingest(
    name: Annotated[str, typer.Argument(help="a dataset that is read from a stream")],
    keep_on: Annotated[bool, typer.Option("--follow", help="go on until Ctrl-C, which ends it after the commit that it is at")] = False,
    metrics_port: Annotated[int, typer.Option(help="with --follow: tell Prometheus the lag on this port of 127.0.0.1")] = 0,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Bring a stream into its table now, each record once, and show how far behind it is. A run accepts a version of it later.

    Example: bedplate data ingest orders --follow --metrics-port 9105
    """
    stop = threading.Event()
    told: list[Standing] = []
    with open_workspace(project) as workspace, _until_interrupted(stop), _telling(metrics_port if keep_on else 0, told):
        for standing in follow(workspace, name, lambda _done, _total: None):
            told[:] = [standing]
            _show(standing, as_json)
            if not keep_on or stop.is_set():
                break
    if sys.stdout.isatty() and not as_json:
        typer.echo()


def _show(standing: Standing, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(standing)))
        return
    apart = f", {standing.quarantined:,} in quarantine" if standing.quarantined else ""
    behind = f"{standing.records_behind:,} records behind for {standing.behind_s:.0f} s" if standing.records_behind else "up to date"
    typer.echo(f"{standing.dataset}: {standing.rows:,} rows{apart}; {behind}".ljust(79), nl=not sys.stdout.isatty())
    if sys.stdout.isatty():
        typer.echo("\r", nl=False)


@contextmanager
def _until_interrupted(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C set `stop`, and the second one interrupt."""

    def hear(signum: int, frame: object) -> None:  # noqa: ARG001 - the form of a signal handler
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _telling(port: int, told: list[Standing]) -> Iterator[None]:
    """Answer GET /metrics on a loopback port, where one is given. Raises Busy when it is taken."""
    if not port:
        yield
        return

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = "".join(map(exposition, told)).encode()
            self.send_response(200 if self.path == "/metrics" else 404)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body) if self.path == "/metrics" else 0))
            self.end_headers()
            if self.path == "/metrics":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: what is asked is no news."""

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Metrics)
    except OSError as error:
        raise Busy("the port cannot be bound", value=port, fix="name another --metrics-port") from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
