"""A server of MLflow's own for a store that is a file, as long as it is written: only MLflow knows the tables of its next version.

Does not know: what is written.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bedplate.core.errors import DataError, Unavailable

START_LIMIT_S = 120.0


@contextmanager
def served(store: str, python: str | None = None) -> Iterator[str]:
    """The URL of a server for `store`: itself, if it is one; for `sqlite:///FILE` one that is started with `python` and stopped at the end.

    Raises Unavailable when that interpreter has no MLflow with a server, and DataError for another kind of store.
    """
    if store.startswith(("http://", "https://")):
        yield store
        return
    if not store.startswith("sqlite:///"):
        raise DataError("this is no place that can be written", value=store, fix="name the http:// URL of a server, or sqlite:///FILE")
    file = Path(store.removeprefix("sqlite:///")).resolve()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [python or sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{file}"]
    argv += ["--artifacts-destination", str(file.with_name(f"{file.stem}-artifacts"))]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end_s:
        if process.poll() is not None:
            said = (process.stdout.read() if process.stdout is not None else b"").decode(errors="replace").strip().splitlines()
            fix = "pip install mlflow (the extra `mlflow` is the client only), or name an interpreter that has it with --python"
            raise Unavailable("MLflow's server does not start", value=said[-1] if said else None, fix=fix)
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=2.0).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise Unavailable("MLflow's server does not answer", value=port, fix="start it yourself, and export to its URL")
