"""A survey of a machine for people: a line for each thing that is there, then what is wrong.

Does not know: how a machine is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from bedplate.cli.command import table
from bedplate.flow.surveying import Survey


def survey_text(found: Survey) -> str:
    """The whole page."""
    rows = list(_rows(found))
    probes = [(each.name, f"{each.value:.4g} {each.unit}", each.verdict) for each in found.probes]
    parts = [table(("what", "there is"), rows)]
    if probes:
        parts.append(table(("probe", "reached", "verdict"), probes))
    parts.append("\n".join(f"TROUBLE  {each}" for each in found.troubles) or "nothing is wrong")
    return "\n\n".join(parts)


def _rows(found: Survey) -> Iterator[tuple[str, str]]:
    machine = found.machine
    yield "machine", f"{machine.host}, {machine.system}"
    yield "processor", f"{machine.processor}, {machine.cores} cores"
    yield "memory", _size(machine.memory_bytes)
    for node in found.nodes if len(found.nodes) > 1 else ():
        yield "NUMA node", f"{node.number}: {len(node.cores)} cores, {_size(node.memory_bytes)}"
    for device in machine.accelerators:
        health = next((each for each in found.devices if each.index == device.index), None)
        more = f", {health.links} NVLinks, {health.temperature_c} C" + (", MIG" if health.slices else "") if health else ""
        yield "accelerator", f"{device.index}: {device.model}, {_size(device.memory_bytes)}{more}"
    for port in found.ports:
        state = "active" if port.active else "down"
        yield "port", f"{port.adapter}/{port.number}: {port.layer}, {port.rate_gb_s:g} Gb/s, {state} {' '.join(port.interfaces)}".rstrip()
    for disk in machine.disks:
        yield "disk", f"{disk.mount} ({disk.file_system}): {_size(disk.free_bytes)} free of {_size(disk.total_bytes)}"
    for nvme in found.nvme:
        yield "NVMe", f"{nvme.device}: {nvme.model}, {_size(nvme.size_bytes)}"
    for mount in found.mounts:
        yield "shared", f"{mount.mount}: {mount.kind} from {mount.source}" + ("" if mount.writable else ", read only")


def _size(count: int) -> str:
    return f"{count / 1e12:.1f} TB" if count >= 1e12 else f"{count / 1e9:.1f} GB"
