# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told about a VM: status/current, the list of a node, and the values that pvestatd broadcasts.

Source: qemu-server, PVE/QemuServer.pm (vmstatus) and PVE/QemuServer/Drive.pm (bootdisk_size).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .clock import Sleep, Steps
from .guests import is_cdrom, is_drive
from .model import MIB, Config, Guest
from .propstring import MOUNT, parse, parse_boolean, parse_drive, parse_size

if TYPE_CHECKING:
    from .cluster import Call, Cluster

_BLOCK_COUNTERS = """
    failed_flush_operations failed_rd_operations failed_unmap_operations failed_wr_operations
    failed_zone_append_operations flush_operations flush_total_time_ns invalid_flush_operations invalid_rd_operations
    invalid_unmap_operations invalid_wr_operations invalid_zone_append_operations rd_bytes rd_merged rd_operations
    rd_total_time_ns unmap_bytes unmap_merged unmap_operations unmap_total_time_ns wr_bytes wr_highest_offset
    wr_merged wr_operations wr_total_time_ns zone_append_bytes zone_append_merged zone_append_operations
    zone_append_total_time_ns
"""
_NO_BLOCKS = dict.fromkeys(_BLOCK_COUNTERS.split(), 0)
_SUPPORT = {
    "backup-access-api": True,
    "backup-fleecing": True,
    "backup-max-workers": True,
    "pbs-dirty-bitmap": True,
    "pbs-dirty-bitmap-migration": True,
    "pbs-dirty-bitmap-savevm": True,
    "pbs-library-version": "2.0.2",
    "pbs-masterkey": True,
    "query-bitmap-info": True,
}


def cpus(config: Config) -> int:
    """How many virtual CPUs run."""
    return int(config.get("vcpus") or int(config.get("sockets", "1")) * int(config.get("cores", "1")))


def memory(config: Config) -> int:
    """Bytes of RAM."""
    return int(config.get("memory", "512").split(",")[0].removeprefix("current=")) * MIB


def boot_order(config: Config) -> list[str]:
    """The devices that a VM boots from, in order (get_bootdisks, and the default when there is none)."""
    boot = config.get("boot", "")
    for part in boot.split(","):
        if part.startswith("order="):
            return [device for device in part.removeprefix("order=").split(";") if device]
    if "bootdisk" in config:
        return [config["bootdisk"]]
    for option in sorted(config):
        if is_drive(option) and option not in ("efidisk0", "tpmstate0"):
            drive = parse_drive(option, config[option])
            if not is_cdrom(drive):
                return [option]
    return []


def boot_disk_size(guest: Guest) -> int:
    """Bytes of the first disk in the boot order; of a container's root."""
    config = guest.config
    if guest.kind == "lxc":
        return parse_size(parse(MOUNT, config.get("rootfs", "")).get("size", "0"))
    for option in boot_order(config):
        if is_drive(option) and option in config:
            drive = parse_drive(option, config[option])
            if not is_cdrom(drive) and drive.get("file"):
                return parse_size(drive.get("size", "0"))
    return 0


def agent_enabled(config: Config) -> bool:
    """Whether the guest agent is enabled in the configuration."""
    first = {key: value for key, _rest, value in (part.partition("=") for part in config.get("agent", "0").split(","))}
    text = first.get("enabled") or next(iter(config.get("agent", "0").split(",")))
    return parse_boolean(text) == "1"


def vmstatus(cluster: Cluster, guest: Guest, *, full: bool) -> dict[str, Any]:
    """One VM's row; `full` asks QEMU too."""
    config, power = guest.config, guest.power
    size = memory(config)
    row: dict[str, Any] = {
        "vmid": guest.vmid,
        "name": config.get("name") or f"VM {guest.vmid}",
        "status": "running" if power else "stopped",
        "cpus": cpus(config),
        "maxdisk": boot_disk_size(guest),
        "maxmem": size,
        "disk": 0,
        "cpu": 0,
        "mem": 0,
        "memhost": 0,
        "netin": 0,
        "netout": 0,
        "uptime": 0,
    }
    if any(option.startswith("serial") for option in config):
        row["serial"] = 1
    if guest.template:
        row["template"] = 1
    for option in ("lock", "tags"):
        if option in config:
            row[option] = config[option]
    if config.get("balloon", "0") != "0":
        row |= {"balloon_min": int(config["balloon"]) * MIB, "shares": int(config.get("shares", "1000"))}
    if power is not None:
        row |= {
            "pid": power.pid,
            "uptime": max(0, int(cluster.now - power.since)),
            "cpu": guest.behaviour.cpu,
            "mem": size // 4,
            "diskread": 0,
            "diskwrite": 0,
            "pressurecpufull": 0,
            "pressurecpusome": 0,
            "pressureiofull": 0,
            "pressureiosome": 0,
            "pressurememoryfull": 0,
            "pressurememorysome": 0,
        }
    if full:
        row["qmpstatus"] = power.qmp if power else "stopped"
        if power is not None:
            row["running-machine"] = power.machine
            row["running-qemu"] = "10.2.2"
            row["proxmox-support"] = _SUPPORT
            awake = cluster.now - power.booted >= guest.behaviour.boot_seconds
            if config.get("balloon") != "0":
                row["balloon"] = size
                row["ballooninfo"] = {"actual": size, "max_mem": size}
                if awake:
                    row["freemem"] = size // 2
                    row["ballooninfo"] |= _balloon(cluster, size)
            row["blockstat"] = {
                option: {
                    "account_failed": True,
                    "account_invalid": True,
                    "timed_stats": [],
                    **_NO_BLOCKS,
                    # Counted from the first access: a guest that moved here running may not have made one.
                    **({"idle_time_ns": 4_000_000_000} if awake and power.moved_from is None else {}),
                }
                for option in sorted(config)
                if is_drive(option) and option not in ("tpmstate0",)
            }
            row["nics"] = {
                f"tap{guest.vmid}i{option.removeprefix('net')}": {"netin": 0, "netout": 0}
                for option in sorted(config)
                if option.startswith("net") and option[3:].isdigit()
            }
    return row


def _balloon(cluster: Cluster, size: int) -> dict[str, int]:
    """What the balloon driver of a guest that is up reports."""
    none = ("major_page_faults", "mem_swapped_in", "mem_swapped_out")
    memory = {"free_mem": size // 2, "total_mem": size * 3 // 4, "minor_page_faults": 2022}
    return {"last_update": int(cluster.now), **memory, **dict.fromkeys(none, 0)}


def current(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/qemu/{vmid}/status/current."""
    cluster = call.cluster
    guest = cluster.guest("qemu", call.node, call.vmid)
    row = vmstatus(cluster, guest, full=True)
    row["ha"] = cluster.ha.status_of(guest.vmid)
    if agent_enabled(guest.config):
        row["agent"] = 1
    vga = guest.config.get("vga", "").split(",")[0].removeprefix("type=")
    if vga.startswith("qxl"):
        row["spice"] = 1
    if "clipboard=vnc" in guest.config.get("vga", ""):
        row["clipboard"] = "vnc"
    return row


def listing(call: Call) -> Steps[list[dict[str, Any]]]:
    """GET /nodes/{node}/qemu; in full every QEMU is asked, also those that the caller may not see (PVE/QemuServer.pm, vmstatus)."""
    cluster, full = call.cluster, bool(call.params.get("full"))
    here = [guest for _vmid, guest in sorted(cluster.guests.items()) if (guest.kind, guest.node) == ("qemu", call.node)]
    if full:
        yield Sleep(cluster.durations.qmp * sum(guest.running for guest in here))
    return [
        vmstatus(cluster, guest, full=full)
        for guest in here
        if cluster.guests.get(guest.vmid) is guest
        and guest.node == call.node
        and call.allowed(f"/vms/{guest.vmid}", "VM.Audit")
    ]


def index(call: Call) -> list[dict[str, str]]:
    """GET /nodes/{node}/qemu/{vmid}/status."""
    call.cluster.guest("qemu", call.node, call.vmid)
    return [
        {"subdir": name} for name in ("current", "start", "stop", "reset", "shutdown", "suspend", "reboot", "resume")
    ]


ROUTES = {
    ("GET", "/nodes/{node}/qemu"): listing,
    ("GET", "/nodes/{node}/qemu/{vmid}/status"): index,
    ("GET", "/nodes/{node}/qemu/{vmid}/status/current"): current,
}
