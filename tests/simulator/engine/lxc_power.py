# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's state and power. Unlike with VMs, `already running` and `not running` are refused at once.

Sources: pve-container, PVE/API2/LXC/Status.pm and PVE/LXC.pm (vmstatus, vm_start, vm_stop, vm_reboot, get_interfaces).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .clock import Sleep, Steps
from .http import bad_parameters, die
from .lxc_config import apply_pending, check_lock, find, lock
from .model import GIB, MIB, Guest, Power
from .propstring import LXC_NET, MOUNT, parse, parse_size
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster


def vmstatus(cluster: Cluster, guest: Guest) -> dict[str, Any]:
    """One container's row."""
    config, power = guest.config, guest.power
    memory = int(config.get("memory", "512")) * MIB
    cpus = float(config.get("cores") or config.get("cpulimit") or 0) or cluster.nodes[guest.node].maxcpu
    row: dict[str, Any] = {
        "vmid": guest.vmid,
        "type": "lxc",
        "name": config.get("hostname") or f"CT{guest.vmid}",
        "status": "running" if power else "stopped",
        "cpus": int(cpus) if float(cpus).is_integer() else cpus,
        "disk": 0,
        "maxdisk": parse_size(parse(MOUNT, config.get("rootfs", "")).get("size", "4G")),
        "mem": 0,
        "swap": 0,
        "maxmem": memory,
        "maxswap": int(config.get("swap", "0")) * MIB,
        "uptime": 0,
        "cpu": 0,
        "netin": 0,
        "netout": 0,
        "diskread": 0,
        "diskwrite": 0,
    }
    for option in ("tags", "lock"):
        if option in config:
            row[option] = config[option]
    if guest.template:
        row["template"] = 1
    if power is not None:
        row |= {
            "pid": power.pid,
            "uptime": max(0, int(cluster.now - power.since)),
            "cpu": guest.behaviour.cpu,
            "mem": memory // 8,
            "disk": row["maxdisk"] // 4,
        }
        row |= {f"pressure{what}{how}": 0 for what in ("cpu", "io", "memory") for how in ("some", "full")}
    return row


def current(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/lxc/{vmid}/status/current."""
    cluster, guest = call.cluster, find(call)
    ha = cluster.ha.status_of(guest.vmid)
    return {**vmstatus(cluster, guest), "ha": ha}


def listing(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/lxc."""
    cluster = call.cluster
    return [
        vmstatus(cluster, guest)
        for vmid, guest in sorted(cluster.guests.items())
        if guest.kind == "lxc" and guest.node == call.node and call.allowed(f"/vms/{vmid}", "VM.Audit")
    ]


def addresses(guest: Guest, number: int, net: dict[str, str]) -> list[str]:
    """The addresses of a container's interface, with prefix length."""
    if number == 0 and guest.behaviour.addresses:
        return list(guest.behaviour.addresses)
    found = []
    for key in ("ip", "ip6"):
        value = net.get(key, "manual")
        if "/" in value:
            found.append(value)
        elif value == "dhcp" and key == "ip":
            found.append(f"10.99.{100 + number}.{guest.vmid % 250 + 1}/24")
    mac = net["hwaddr"].split(":")
    local = f"fe80::{int(mac[0], 16) ^ 2:x}{mac[1].lower()}:{mac[2].lower()}ff:fe{mac[3].lower()}:{mac[4].lower()}{mac[5].lower()}"
    return [*found, f"{local}/64"]


def interfaces(call: Call) -> list[dict[str, Any]] | None:
    """GET /nodes/{node}/lxc/{vmid}/interfaces; nothing for a container that does not run."""
    guest = call.cluster.guests.get(call.vmid)
    if guest is None or guest.kind != "lxc" or guest.node != call.node or not guest.running:
        return None
    rows = [_interface("lo", "00:00:00:00:00:00", ["127.0.0.1/8", "::1/128"])]
    for option in sorted(option for option in guest.config if re.fullmatch(r"net\d+", option)):
        net = parse(LXC_NET, guest.config[option])
        rows.append(_interface(net["name"], net["hwaddr"].lower(), addresses(guest, int(option[3:]), net)))
    return rows


def _interface(name: str, mac: str, found: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "hwaddr": mac, "hardware-address": mac, "ip-addresses": []}
    for address in found:
        ip, _rest, prefix = address.partition("/")
        family = "inet6" if ":" in ip else "inet"
        # Of several, the last one stands here.
        row[family] = address
        row["ip-addresses"].append({"ip-address": ip, "ip-address-type": family, "prefix": int(prefix)})
    return row


# --- what happens in tasks ------------------------------------------------------------------------------------------


def start_unlocked(cluster: Cluster, guest: Guest, task: Task) -> Steps[None]:
    """vm_start of PVE/LXC.pm: what is pending is applied, then the container runs. Raises ApiError.

    It asks systemd to start a unit, which does nothing to one that runs.
    """
    for text in (yield from apply_pending(cluster, guest)).values():
        task.log(text)
    yield Sleep(cluster.durations.start)
    for option in sorted(option for option in guest.config if re.fullmatch(r"net\d+", option)):
        bridge = parse(LXC_NET, guest.config[option]).get("bridge")
        if bridge is not None and bridge not in cluster.nodes[guest.node].bridges:
            task.log(f"bridge '{bridge}' does not exist")
            raise die(f"startup for container '{guest.vmid}' failed")
    if guest.running:
        return
    if guest.behaviour.start_warning:
        task.warn(guest.behaviour.start_warning)
    if guest.behaviour.start_error:
        task.log(guest.behaviour.start_error)
        raise die(f"startup for container '{guest.vmid}' failed")
    guest.power = Power(cluster.next_pid(guest.node), cluster.now)
    cluster.write(guest)


def stop_unlocked(
    cluster: Cluster, guest: Guest, task: Task, *, kill: bool, timeout: float = 60, force: bool = False
) -> Steps[None]:
    """vm_stop of PVE/LXC.pm. Raises ApiError when it goes on running."""
    if guest.power is None:
        return
    if kill:
        yield Sleep(cluster.durations.stop)
    elif guest.behaviour.acpi and guest.behaviour.shutdown_seconds <= timeout:
        yield Sleep(guest.behaviour.shutdown_seconds)
    else:
        yield Sleep(timeout)
        if not force:
            task.log(f"command 'lxc-stop -n {guest.vmid} --nokill --timeout {timeout:.0f}' failed: exit code 1")
            raise die("container did not stop")
    guest.power = None
    cluster.touched(guest.vmid)


def start_in_task(cluster: Cluster, node: str, vmid: int, task: Task, *, skiplock: bool = False) -> Steps[None]:
    """What a vzstart task does. Raises ApiError."""
    with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
        guest = cluster.guest("lxc", node, vmid)
        if guest.template:
            raise die("you can't start a CT if it's a template")
        if not skiplock and guest.config.get("lock") != "mounted":
            check_lock(guest)
        yield from start_unlocked(cluster, guest, task)


# --- endpoints ------------------------------------------------------------------------------------------------------


def running(call: Call, wanted: bool, kind: str = "CT") -> Guest | None:
    """500 unless the container runs, or does not; a missing one does not run (check_running)."""
    guest = call.cluster.guests.get(call.vmid)
    here = guest is not None and guest.kind == "lxc" and guest.node == call.node
    runs = here and guest is not None and guest.running
    if wanted and not runs:
        raise die(f"{kind} {call.vmid} not running")
    if runs and not wanted:
        raise die(f"{kind} {call.vmid} already running")
    return guest if here else None


def start(call: Call) -> str:
    """POST .../status/start."""
    cluster, node, vmid = call.cluster, call.node, call.vmid
    call.root_only("skiplock")
    running(call, False)
    cluster.need_quorum()
    if cluster.ha_managed(vmid):
        return str(cluster.ha.queue(call, "hastart", "start"))
    skiplock = bool(call.params.get("skiplock"))
    return call.task("vzstart", vmid, lambda task: start_in_task(cluster, node, vmid, task, skiplock=skiplock))


def stop(call: Call) -> str:
    """POST .../status/stop."""
    cluster, node, vmid = call.cluster, call.node, call.vmid
    call.root_only("skiplock")
    overrule = bool(call.params.get("overrule-shutdown"))
    running(call, True)
    if cluster.ha_managed(vmid):
        if overrule:
            raise bad_parameters({"overrule-shutdown": "Not applicable for HA resources."})
        return str(cluster.ha.queue(call, "hastop", "stop"))

    def body(task: Task) -> Steps[None]:
        if overrule:
            ended = [
                other for other in cluster.tasks.running(node) if other.type == "vzshutdown" and other.id == str(vmid)
            ]
            for other in ended:
                if other.process is not None:
                    other.process.interrupt()
            if ended:
                task.log(f"overruled vzshutdown tasks: {', '.join(other.upid for other in ended)}")
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            guest = cluster.guest("lxc", node, vmid)
            if not call.params.get("skiplock") and guest.config.get("lock") != "mounted":
                check_lock(guest)
            yield from stop_unlocked(cluster, guest, task, kill=True)

    return call.task("vzstop", vmid, body)


def shutdown(call: Call) -> str:
    """POST .../status/shutdown."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    timeout = params.get("timeout", 60)
    running(call, True)
    if cluster.ha_managed(vmid):
        return str(cluster.ha.queue(call, "hastop", "stop", timeout=timeout))

    def body(task: Task) -> Steps[None]:
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            guest = cluster.guest("lxc", node, vmid)
            check_lock(guest)
            yield from stop_unlocked(
                cluster, guest, task, kill=False, timeout=timeout, force=bool(params.get("forceStop"))
            )

    return call.task("vzshutdown", vmid, body)


def reboot(call: Call) -> str:
    """POST .../status/reboot: the task goes on until the container runs again."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    running(call, True, "VM")

    def body(task: Task) -> Steps[None]:
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            guest = cluster.guest("lxc", node, vmid)
            yield from stop_unlocked(cluster, guest, task, kill=False, timeout=params.get("timeout", 60), force=True)
            yield from start_unlocked(cluster, guest, task)

    return call.task("vzreboot", vmid, body)


def suspend(call: Call) -> str:
    """POST .../status/suspend: CRIU cannot checkpoint a container of today, so it fails in the task."""
    cluster, node, vmid = call.cluster, call.node, call.vmid
    running(call, True)

    def body(task: Task) -> Steps[None]:
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            check_lock(cluster.guest("lxc", node, vmid))
            yield Sleep(0.2)
            raise die(f"command 'lxc-checkpoint -n {vmid} -s -D /var/lib/vz/dump' failed: exit code 1")

    return call.task("vzsuspend", vmid, body)


def resume(call: Call) -> str:
    """POST .../status/resume: there is no checkpoint to resume from."""
    vmid = call.vmid
    running(call, False)

    def body(task: Task) -> Steps[None]:
        yield Sleep(0.2)
        raise die(f"command 'lxc-checkpoint -n {vmid} -r --foreground -D /var/lib/vz/dump' failed: exit code 1")

    return call.task("vzresume", vmid, body)


_PATH = "/nodes/{node}/lxc/{vmid}"
ROUTES = {
    ("GET", "/nodes/{node}/lxc"): listing,
    ("GET", f"{_PATH}/status/current"): current,
    ("GET", f"{_PATH}/interfaces"): interfaces,
    ("POST", f"{_PATH}/status/start"): start,
    ("POST", f"{_PATH}/status/stop"): stop,
    ("POST", f"{_PATH}/status/shutdown"): shutdown,
    ("POST", f"{_PATH}/status/reboot"): reboot,
    ("POST", f"{_PATH}/status/suspend"): suspend,
    ("POST", f"{_PATH}/status/resume"): resume,
}

__all__ = ["GIB", "ROUTES"]
