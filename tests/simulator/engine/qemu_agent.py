# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent of a VM: its order of errors, three seconds for one that does not answer, and what it tells.

Sources: qemu-server, PVE/API2/Qemu/Agent.pm and PVE/QemuServer/Agent.pm; the answers are those of QEMU's guest agent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .clock import Sleep, Steps
from .http import die
from .model import Guest
from .propstring import NET, parse
from .qemu_power import agent_answers
from .qemu_status import agent_enabled

if TYPE_CHECKING:
    from .cluster import Call, Cluster


def available(call: Call) -> Steps[Guest]:
    """The VM, once its agent has answered a ping (assert_agent_available). Raises ApiError."""
    cluster = call.cluster
    guest = cluster.guest("qemu", call.node, call.vmid)
    if "agent" not in guest.config:
        raise die("No QEMU guest agent configured")
    if not guest.running:
        raise die(f"VM {call.vmid} is not running")
    if not agent_answers(cluster, guest):
        # Without a channel to the guest the failure is immediate.
        yield Sleep(cluster.durations.agent_timeout if agent_enabled(guest.config) else 0.0)
        raise die("QEMU guest agent is not running")
    return guest


def addresses(guest: Guest, number: int) -> list[str]:
    """The addresses of a VM's interface, with prefix length: set by a test, by cloud-init, or made up."""
    if number == 0 and guest.behaviour.addresses:
        return list(guest.behaviour.addresses)
    found = []
    for part in guest.config.get(f"ipconfig{number}", "").split(","):
        key, _, value = part.partition("=")
        if key in ("ip", "ip6") and "/" in value:
            found.append(value)
    if not any("." in address for address in found):
        found.insert(0, f"10.99.{number}.{guest.vmid % 250 + 1}/24")
    mac = parse(NET, guest.config[f"net{number}"])["macaddr"].lower().split(":")
    head = f"{int(mac[0], 16) ^ 2:x}{mac[1]}"
    return [*found, f"fe80::{head}:{mac[2]}ff:fe{mac[3]}:{mac[4]}{mac[5]}/64"]


def interfaces(cluster: Cluster, guest: Guest) -> list[dict[str, Any]]:
    """What network-get-interfaces tells."""
    rows = [_interface("lo", "00:00:00:00:00:00", ["127.0.0.1/8", "::1/128"])]
    for option in sorted(option for option in guest.config if re.fullmatch(r"net\d+", option)):
        number = int(option[3:])
        mac = parse(NET, guest.config[option])["macaddr"].lower()
        rows.append(_interface(f"eth{number}", mac, addresses(guest, number)))
    return rows


def _interface(name: str, mac: str, found: list[str]) -> dict[str, Any]:
    counters = ("rx-bytes", "rx-dropped", "rx-errs", "rx-packets", "tx-bytes", "tx-dropped", "tx-errs", "tx-packets")
    ips = []
    for address in found:
        ip, _, prefix = address.partition("/")
        ips.append({"ip-address": ip, "ip-address-type": "ipv6" if ":" in ip else "ipv4", "prefix": int(prefix)})
    return {"name": name, "hardware-address": mac, "ip-addresses": ips, "statistics": dict.fromkeys(counters, 0)}


def _osinfo(cluster: Cluster, guest: Guest) -> dict[str, Any]:
    return {
        "kernel-release": "6.12.57+deb13-cloud-amd64",
        "kernel-version": "#1 SMP PREEMPT_DYNAMIC Debian 6.12.57-1 (2025-11-05)",
        "machine": "x86_64",
    }


def _fsinfo(cluster: Cluster, guest: Guest) -> list[dict[str, Any]]:
    disk = {"bus": 0, "bus-type": "scsi", "dev": "/dev/sda1", "target": 0, "unit": 0}
    size = 2 * 1024**3
    return [
        {
            "name": "sda1",
            "mountpoint": "/",
            "type": "ext4",
            "disk": [disk],
            "total-bytes": size,
            "used-bytes": size // 3,
        }
    ]


def _vcpus(cluster: Cluster, guest: Guest) -> list[dict[str, Any]]:
    count = int(guest.config.get("cores", "1")) * int(guest.config.get("sockets", "1"))
    return [{"logical-id": number, "online": True, "can-offline": number > 0} for number in range(count)]


def _host_name(cluster: Cluster, guest: Guest) -> dict[str, Any]:
    return {"host-name": guest.config.get("name", "localhost")}


def _time(cluster: Cluster, guest: Guest) -> int:
    return int(cluster.now * 1e9)


def _nothing(cluster: Cluster, guest: Guest) -> dict[str, Any]:
    return {}


Answer = Callable[["Cluster", Guest], Any]
_ANSWERS: dict[tuple[str, str], Answer] = {
    ("POST", "ping"): _nothing,
    ("GET", "network-get-interfaces"): interfaces,
    ("GET", "get-osinfo"): _osinfo,
    ("GET", "get-host-name"): _host_name,
    ("GET", "get-time"): _time,
    ("GET", "get-timezone"): lambda cluster, guest: {"offset": 0, "zone": "UTC"},
    ("GET", "get-users"): lambda cluster, guest: [],
    ("GET", "get-vcpus"): _vcpus,
    ("GET", "get-fsinfo"): _fsinfo,
    ("GET", "info"): lambda cluster, guest: {"version": "10.0.0", "supported_commands": []},
    ("POST", "fsfreeze-status"): lambda cluster, guest: "thawed",
    ("POST", "fsfreeze-freeze"): lambda cluster, guest: 1,
    ("POST", "fsfreeze-thaw"): lambda cluster, guest: 1,
    ("POST", "fstrim"): lambda cluster, guest: {"paths": [{"minimum": 0, "path": "/", "trimmed": 0}]},
}


def _command(answer: Answer) -> Callable[[Call], Steps[dict[str, Any]]]:
    def handle(call: Call) -> Steps[dict[str, Any]]:
        guest = yield from available(call)
        yield Sleep(0.1)
        return {"result": answer(call.cluster, guest)}

    return handle


_PATH = "/nodes/{node}/qemu/{vmid}/agent"
ROUTES: dict[tuple[str, str], Callable[[Call], Any]] = {
    (method, f"{_PATH}/{name}"): _command(answer) for (method, name), answer in _ANSWERS.items()
}
