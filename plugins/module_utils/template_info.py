# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What guests can be made from: guests that are templates, and templates of containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import hosts
from .errors import no_such_node
from .plan import Feature, Reader
from .wire import is_true, words

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """:param node: None for all. :param kind: qemu or lxc, None for both. :param available: whether to list what can be fetched."""

    node: str | None
    kind: str | None
    available: bool


@dataclass(frozen=True)
class Observed:
    """:param guests: rows of /cluster/resources. :param files: storage, node (None for a shared one) and what is there.

    :param available: the server's list of container templates, None where nobody asked for it.
    """

    guests: Sequence[Row]
    files: Sequence[tuple[str, str | None, Sequence[Row]]]
    available: Sequence[Row] | None


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    return Wanted(options.get("node"), options.get("type"), options["available"])


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the templates: one request, and for containers one for each storage that holds templates."""
    rows = reader.get("/cluster/resources")
    nodes = {row["node"] for row in rows if row["type"] == "node"}
    if want.node is not None and want.node not in nodes:
        raise no_such_node(want.node, nodes)
    rows = [row for row in rows if want.node in (None, row.get("node"))]
    guests = [row for row in rows if row["type"] in hosts.KINDS and is_true(row.get("template"))]
    files: list[tuple[str, str | None, Sequence[Row]]] = []
    available = None
    if want.kind in (None, "lxc"):
        seen: set[tuple[str, str | None]] = set()
        for row in rows:
            if (
                row["type"] != "storage"
                or "vztmpl" not in words(row.get("content"))
                or row.get("status") != "available"
            ):
                continue
            place = (str(row["storage"]), None if is_true(row.get("shared")) else str(row["node"]))
            if place not in seen:
                seen.add(place)
                path = f"/nodes/{row['node']}/storage/{row['storage']}/content"
                files.append((*place, reader.get(path, content="vztmpl")))
        online = [row["node"] for row in rows if row["type"] == "node" and row.get("status") != "offline"]
        if want.available:
            available = reader.get(f"/nodes/{sorted(online)[0]}/aplinfo") if online else []
    return Observed(guests, files, available)


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return guests by VMID, files by their volume id, and what can be fetched by its name."""
    guests = sorted(observed.guests, key=lambda row: int(row["vmid"]))
    found: dict[str, object] = {
        "guests": [
            {key: value for key, value in hosts.guest_variables(row).items() if key in _SHOWN}
            for row in guests
            if want.kind in (None, row["type"])
        ],
        "container_templates": [
            {
                "volid": row["volid"],
                "storage": storage,
                "node": node,
                "size": row.get("size"),
                "format": row.get("format"),
            }
            for storage, node, rows in sorted(observed.files, key=lambda place: (place[0], place[1] or ""))
            for row in sorted(rows, key=lambda row: str(row["volid"]))
        ],
    }
    if observed.available is not None:
        keys = ("template", "os", "version", "section", "headline", "sha512sum")
        found["available"] = [
            {key: row.get(key) for key in keys}
            for row in sorted(observed.available, key=lambda row: str(row.get("template")))
            if row.get("template") is not None
        ]
    return found


_SHOWN = frozenset({"vmid", "name", "node", "type", "tags", "pool", "maxcpu", "maxmem", "maxdisk"})

FEATURE = Feature(wanted, observe, None, result)
