# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the cluster is: its nodes and their versions, quorum, what it has in all, and the next VMID."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ProxmoxError
from .guests import KINDS
from .plan import Feature, Reader
from .wire import is_true, measurement

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Observed:
    """:param status: rows of /cluster/status. :param rows: rows of /cluster/resources.

    :param versions: by node, None where it did not answer.
    """

    status: Sequence[Row]
    rows: Sequence[Row]
    versions: Mapping[str, str | None]
    next_vmid: int


def wanted(options: Mapping[str, Any]) -> None:
    """There is nothing to choose."""


def observe(want: None, reader: Reader, previous: Observed | None) -> Observed:
    """Return the cluster: three requests, and one for each node that is up."""
    status = reader.get("/cluster/status")
    versions = {row["name"]: _version(row, reader) for row in status if row["type"] == "node"}
    return Observed(status, reader.get("/cluster/resources"), versions, int(reader.get("/cluster/nextid")))


def _version(row: Row, reader: Reader) -> str | None:
    if not is_true(row.get("online")):
        return None
    try:
        return str(reader.get(f"/nodes/{row['name']}/version")["version"])
    except ProxmoxError as error:
        if error.status == 401:
            raise
        # It may have gone down a moment ago; the others are worth telling of.
        return None


def result(want: None, observed: Observed) -> Mapping[str, object]:
    """Return the cluster; a node of its own has no name and counts as quorate."""
    cluster = next((row for row in observed.status if row["type"] == "cluster"), None)
    nodes = sorted((row for row in observed.status if row["type"] == "node"), key=lambda row: str(row["name"]))
    return {
        "cluster": {"name": cluster["name"], "version": cluster.get("version")} if cluster is not None else None,
        "quorate": cluster is None or is_true(cluster.get("quorate")),
        "nodes": [
            {
                "node": row["name"],
                "id": row.get("nodeid"),
                "ip": row.get("ip"),
                "online": is_true(row.get("online")),
                "local": is_true(row.get("local")),
                "version": observed.versions.get(row["name"]),
            }
            for row in nodes
        ],
        "versions": sorted({version for version in observed.versions.values() if version is not None}),
        "next_vmid": observed.next_vmid,
        "totals": totals(observed.rows),
    }


def totals(rows: Sequence[Row]) -> dict[str, object]:
    """Return what the whole cluster has and uses; what the credentials may not see does not count. Sizes in bytes."""
    guests = [row for row in rows if row["type"] in KINDS]
    states = Counter("template" if is_true(row.get("template")) else str(row.get("status")) for row in guests)
    nodes = [row for row in rows if row["type"] == "node" and row.get("status") == "online"]
    # A shared storage is listed for each node, and is there once.
    storages = {
        (row["storage"], "" if is_true(row.get("shared")) else row["node"]): row
        for row in rows
        if row["type"] == "storage" and row.get("status") == "available"
    }

    def total(among: Sequence[Row], key: str) -> int:
        return sum(int(measurement(row.get(key)) or 0) for row in among)

    return {
        "guests": {
            "qemu": sum(row["type"] == "qemu" for row in guests),
            "lxc": sum(row["type"] == "lxc" for row in guests),
            "by_status": dict(sorted(states.items())),
        },
        "cpus": total(nodes, "maxcpu"),
        "memory": {"total": total(nodes, "maxmem"), "used": total(nodes, "mem")},
        "storage": {
            "total": total(list(storages.values()), "maxdisk"),
            "used": total(list(storages.values()), "disk"),
        },
    }


FEATURE = Feature(wanted, observe, None, result)
