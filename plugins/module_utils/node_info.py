# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nodes are, what they have and what they are doing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ProxmoxError, no_such_node
from .guests import KINDS
from .plan import Feature, Reader
from .wire import is_true, measurement, words

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """:param node: None for all. :param details: whether each node is asked for what only it knows."""

    node: str | None
    details: bool


@dataclass(frozen=True)
class Observed:
    """:param rows: everything that /cluster/resources lists. :param details: by node; the reason where it did not answer."""

    rows: Sequence[Row]
    details: Mapping[str, Row | str]


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    return Wanted(options.get("node"), options["details"])


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the nodes: one request, and with details one for each that is up."""
    rows = reader.get("/cluster/resources")
    nodes = [row for row in rows if row["type"] == "node"]
    if want.node is not None and want.node not in {row["node"] for row in nodes}:
        raise no_such_node(want.node, (row["node"] for row in nodes))
    details: dict[str, Row | str] = {}
    for row in nodes if want.details else ():
        if row.get("status") == "offline" or want.node not in (None, row["node"]):
            continue
        try:
            details[row["node"]] = reader.get(f"/nodes/{row['node']}/status")
        except ProxmoxError as error:
            if error.status == 401:
                raise
            # The others are worth telling of.
            details[row["node"]] = error.message
    return Observed(rows, details)


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the nodes by name."""
    rows = observed.rows
    return {
        "nodes": [
            _node(row, rows, observed.details.get(row["node"]))
            for row in sorted((row for row in rows if row["type"] == "node"), key=lambda row: str(row["node"]))
            if want.node in (None, row["node"])
        ]
    }


def _node(row: Row, rows: Sequence[Row], details: Row | str | None) -> dict[str, object]:
    here = [other for other in rows if other.get("node") == row["node"]]
    guests = [other for other in here if other["type"] in KINDS]
    states = Counter("template" if is_true(guest.get("template")) else str(guest.get("status")) for guest in guests)
    told: dict[str, object] = {
        "node": row["node"],
        "status": row.get("status"),
        "ha_state": row.get("hastate"),
        "uptime": row.get("uptime"),
        "cpu_usage": row.get("cpu"),
        "maxcpu": row.get("maxcpu"),
        "mem": row.get("mem"),
        "maxmem": row.get("maxmem"),
        "disk": row.get("disk"),
        "maxdisk": row.get("maxdisk"),
        "guests": {"total": len(guests), "by_status": dict(sorted(states.items()))},
        "storages": [
            {
                "storage": other["storage"],
                "type": other.get("plugintype"),
                "status": other.get("status"),
                "shared": is_true(other.get("shared")),
                "content": sorted(words(other.get("content"))),
                "used": other.get("disk"),
                "total": other.get("maxdisk"),
            }
            for other in sorted(here, key=lambda other: str(other.get("storage")))
            if other["type"] == "storage"
        ],
    }
    if isinstance(details, str):
        return {**told, "details": None, "details_error": details}
    return {**told, "details": _details(details) if details is not None else None}


def _details(status: Row) -> dict[str, object]:
    """Return what the node tells of itself (PVE/API2/Nodes.pm, status); sizes in bytes."""
    cpu, kernel = status.get("cpuinfo") or {}, status.get("current-kernel") or {}
    return {
        "version": str(status.get("pveversion") or ""),
        "kernel": kernel.get("release"),
        "boot_mode": (status.get("boot-info") or {}).get("mode"),
        "cpu_model": cpu.get("model"),
        "cpu_sockets": cpu.get("sockets"),
        "cpu_cores": cpu.get("cores"),
        "load_average": [measurement(text) for text in status.get("loadavg") or ()],
        "memory": dict(status.get("memory") or {}),
        "swap": dict(status.get("swap") or {}),
        "root_filesystem": dict(status.get("rootfs") or {}),
    }


FEATURE = Feature(wanted, observe, None, result)
