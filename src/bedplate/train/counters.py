"""What the machine did to one rank: processor time, time spent waiting for a processor, page faults, bytes read, and the host's totals.

Totals since some fixed moment; `timers` writes by how much they grew, once a second. Reading them costs about 0.3 ms.
Does not know: steps, or what the numbers mean.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import psutil

_SCHEDULED = Path("/proc/thread-self/schedstat")


class HostCounters:
    """Called for totals by name: `wall_s`; of this process `cpu_s`, `switches` (involuntary), `faults` (that read a disk), `read_bytes`
    (asked for) and `storage_bytes` (that came from storage, not from the page cache); of the host `host_busy_s`, `host_steal_s`,
    `host_iowait_s` over all processors. What a system does not count is left out.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._reads = hasattr(self._process, "io_counters") and Path("/proc/self/io").exists()

    def __call__(self) -> dict[str, float]:
        """The totals now."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        host = psutil.cpu_times()
        counted = {
            "wall_s": time.perf_counter(),
            "cpu_s": used.ru_utime + used.ru_stime,
            "switches": float(used.ru_nivcsw),
            "faults": float(used.ru_majflt),
            "host_busy_s": host.user + host.system + getattr(host, "nice", 0.0) + getattr(host, "softirq", 0.0),
            "host_steal_s": getattr(host, "steal", 0.0),
            "host_iowait_s": getattr(host, "iowait", 0.0),
        }
        if self._reads:
            read = self._process.io_counters()
            counted |= {"read_bytes": float(read.read_chars), "storage_bytes": float(read.read_bytes)}
        return counted


class RunDelay:
    """Called for the seconds that the thread which made it was ready to run while others had the processor. A call costs 3 microseconds.

    Linux counts them (Documentation/scheduler/sched-stats, the second field of schedstat); elsewhere the answer is 0.
    """

    def __init__(self) -> None:
        self._descriptor = os.open(_SCHEDULED, os.O_RDONLY | os.O_CLOEXEC) if _SCHEDULED.exists() else None

    def __call__(self) -> float:
        """The total now."""
        if self._descriptor is None:
            return 0.0
        return int(os.pread(self._descriptor, 128, 0).split()[1]) / 1e9

    def close(self) -> None:
        """Release the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
