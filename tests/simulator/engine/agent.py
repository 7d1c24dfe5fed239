# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU guest agent.

Sources: qemu-server, PVE/API2/Qemu/Agent.pm and PVE/QemuServer/Agent.pm (assert_agent_available).
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

if TYPE_CHECKING:
    from .cluster import Call


def available(call: Call) -> Steps[Guest]:
    """The VM whose agent answers; a dead one costs three seconds. Raises ApiError."""
    cluster = call.cluster
    guest = cluster.guest("qemu", call.node, call.vmid)
    if "agent" not in guest.config:
        raise die("No QEMU guest agent configured")
    if not guest.running:
        raise die(f"VM {guest.vmid} is not running")
    if not agent_answers(cluster, guest):
        yield Sleep(cluster.durations.agent_timeout)
        raise die("QEMU guest agent is not running")
    return guest


def addresses(guest: Guest, number: int) -> list[str]:
    """The addresses of a network device with their prefix lengths: those that tests set, cloud-init's, or made-up ones."""
    if number == 0 and guest.behaviour.addresses:
        return list(guest.behaviour.addresses)
    found = re.search(r"(?:^|,)ip=([0-9.]+/\d+)", guest.config.get(f"ipconfig{number}", ""))
    if found:
        return [found[1]]
    return [f"10.{20 + number}.{guest.vmid // 250 % 250}.{guest.vmid % 250 + 1}/16"]


def _address(text: str) -> dict[str, Any]:
    address, _rest, prefix = text.partition("/")
    kind = "ipv6" if ":" in address else "ipv4"
    return {"ip-address": address, "ip-address-type": kind, "prefix": int(prefix or "32")}


def interfaces(guest: Guest) -> list[dict[str, Any]]:
    """What network-get-interfaces tells of a Linux guest."""
    counters = dict.fromkeys(
        ("rx-bytes", "rx-packets", "rx-errs", "rx-dropped", "tx-bytes", "tx-packets", "tx-errs", "tx-dropped"), 0
    )
    rows: list[dict[str, Any]] = [
        {
            "name": "lo",
            "hardware-address": "00:00:00:00:00:00",
            "ip-addresses": [_address("127.0.0.1/8"), _address("::1/128")],
            "statistics": dict(counters),
        }
    ]
    devices = sorted(
        (option for option in guest.config if re.fullmatch(r"net\d+", option)), key=lambda name: int(name[3:])
    )
    for option in devices:
        number = int(option[3:])
        mac = parse(NET, guest.config[option])["macaddr"].lower()
        link = f"fe80::{mac[0:2]}{mac[3:5]}:{mac[6:8]}ff:fe{mac[9:11]}:{mac[12:14]}{mac[15:17]}/64"
        rows.append(
            {
                "name": f"eth{number}",
                "hardware-address": mac,
                "ip-addresses": [_address(text) for text in [*addresses(guest, number), link]],
                "statistics": dict(counters),
            }
        )
    return rows


def _answers(call: Call, guest: Guest, command: str) -> Any:
    """The result of a command without parameters."""
    now = call.cluster.now
    results: dict[str, Callable[[], Any]] = {
        "ping": dict,
        "network-get-interfaces": lambda: interfaces(guest),
        "get-host-name": lambda: {"host-name": guest.config.get("name", "localhost")},
        "get-osinfo": lambda: {
            "id": "debian",
            "name": "Debian GNU/Linux",
            "pretty-name": "Debian GNU/Linux 13 (trixie)",
            "version": "13 (trixie)",
            "version-id": "13",
            "kernel-release": "6.12.117+deb13-cloud-amd64",
            "kernel-version": "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-12)",
            "machine": "x86_64",
        },
        "get-time": lambda: int(now * 1e9),
        "get-timezone": lambda: {"offset": 0, "zone": "UTC"},
        "get-users": list,
        "get-fsinfo": list,
        "get-vcpus": lambda: [{"logical-id": 0, "online": True, "can-offline": False}],
        "info": lambda: {"version": "10.0.2", "supported_commands": []},
        "fsfreeze-status": lambda: "thawed",
        "fsfreeze-freeze": lambda: 1,
        "fsfreeze-thaw": lambda: 1,
        "fstrim": lambda: {"paths": []},
    }
    return results[command]()


def _command(command: str) -> Any:
    def handler(call: Call) -> Steps[dict[str, Any]]:
        guest = yield from available(call)
        yield Sleep(0.1)
        return {"result": _answers(call, guest, command)}

    return handler


COMMANDS = {
    "POST": ("ping", "fsfreeze-status", "fsfreeze-freeze", "fsfreeze-thaw", "fstrim"),
    "GET": (
        "network-get-interfaces", "get-host-name", "get-osinfo", "get-time", "get-timezone", "get-users", "get-fsinfo", "get-vcpus",
        "info",
    ),
}  # fmt: skip
ROUTES: dict[tuple[str, str], Any] = {
    (method, f"/nodes/{{node}}/qemu/{{vmid}}/agent/{command}"): _command(command)
    for method, commands in COMMANDS.items()
    for command in commands
}
