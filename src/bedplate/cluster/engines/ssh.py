"""The ssh launcher: attempts on hosts that OpenSSH reaches, one host an attempt.

`submit` returns at once: a courier (`remote_courier`) brings the attempt there. An attempt runs under a shim there, as a local one does
here, so a lost connection ends nothing, and whoever has the attempt's folder here goes on with it.
Does not know: what an attempt does, or why it is started or stopped.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from bedplate.cluster.remote_courier import Courier, read_place
from bedplate.cluster.remote_host import Host, by_load
from bedplate.cluster.remote_ssh import Shell, check_tools
from bedplate.cluster.wish import wish
from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt, read_attempt
from bedplate.core.pools_file import DeclaredPool
from bedplate.core.protocols import Liveness, Rendered


class SshLauncher:
    """The launcher of one pool. Another instance, in another process, can poll and cancel what this one started."""

    name = "ssh"

    def __init__(self, pool: DeclaredPool, folder: Path) -> None:
        """`folder` is that of pools.yaml, to which `ssh_config` is relative. Raises Unavailable without ssh or rsync here."""
        check_tools()
        config = str(folder / pool.ssh_config) if pool.ssh_config else ""
        self._hosts = [Host(Shell(host, config), pool.folder, pool.python, shared=pool.shared) for host in pool.hosts]
        self._couriers: dict[str, tuple[Courier, threading.Thread]] = {}

    def render(self, attempt: Attempt) -> Rendered:
        """What would be started on the host. Pure."""
        return Rendered(attempt.shim_argv, dict(attempt.environment), attempt.folder)

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        """Begin to bring the attempt to a host, or go on with it; returns its folder here and its token."""
        (attempt.path / "logs").mkdir(parents=True, exist_ok=True)
        if not (attempt.path / ATTEMPT_FILE).exists():
            write_json(attempt.path / ATTEMPT_FILE, attempt.to_json())
        self._courier(attempt.folder)
        return {"folder": attempt.folder, "token": attempt.token}

    def poll(self, handle: Mapping[str, Any]) -> Liveness:
        """`gone` when the host said that nothing of it runs and all that it wrote is here; `unknown` while the host is silent."""
        if read_place(Path(handle["folder"])).phase == "done":
            self._couriers.pop(handle["folder"], None)
            return "gone"
        return self._courier(handle["folder"]).liveness()

    def logs(self, attempt: Attempt, rank: int) -> Iterator[str]:
        """The lines that a rank printed and that are here already, in order."""
        path = attempt.log(rank)
        if path.exists():
            with path.open(errors="replace") as file:
                yield from (line.rstrip("\n") for line in file)

    def cancel(self, handle: Mapping[str, Any], how: Literal["stop", "cancel"]) -> None:
        """Write the wish down; it is passed on as soon as the host can be reached. A stop after a cancel changes nothing."""
        folder = Path(handle["folder"])
        if read_place(folder).phase != "done":
            wish(folder, how)
            self._courier(handle["folder"])

    def close(self) -> None:
        """End the couriers; what runs on hosts runs on."""
        for courier, _ in self._couriers.values():
            courier.close()
        for _, thread in self._couriers.values():
            thread.join()

    def _courier(self, folder: str) -> Courier:
        """The courier of an attempt, at work; begun again where it was at its end too early, or somebody else was at it."""
        known = self._couriers.get(folder)
        if known is not None and known[1].is_alive():
            return known[0]
        attempt = read_attempt(Path(folder))
        names = [host.name for host in self._hosts]
        busy = Counter(read_place(Path(other)).host or at.hosts[0].name for other, (at, _) in self._couriers.items())
        courier = known[0] if known is not None else Courier(attempt, by_load(self._hosts, attempt.excluded, busy), names)
        thread = threading.Thread(target=courier.run, name=f"courier of {attempt.run}", daemon=True)
        self._couriers[folder] = courier, thread
        thread.start()
        return courier
