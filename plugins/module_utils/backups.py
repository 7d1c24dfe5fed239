# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups that exist: where storages for them are, what is on them, how old it is.

A list leaves out what the credentials may not use (pve-storage, PVE/Storage.pm, check_volume_access), and storages of files list
the first line of notes only (PVE/Storage/Plugin.pm, get_subdir_files).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ProxmoxError, Refused, no_such_node
from .guests import KINDS
from .plan import Reader
from .wire import Properties, format_properties, is_true, number, parse_properties, words

# pve-storage, PVE/Storage.pm (archive_info) and PVE/Storage/PBSPlugin.pm (print_volid).
_VOLID = re.compile(
    r"(?P<storage>[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]):backup/"
    r"(?:vzdump-(?P<kind>qemu|lxc)-(?P<vmid>[1-9]\d{2,8})-[^/?#%\s]+|(?P<type>vm|ct)/(?P<id>[1-9]\d{2,8})/[^/?#%\s]+)"
)
_DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_SECONDS = (7 * 86400, 86400, 3600, 60, 1)

_KEEP = ("keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly")

# Property strings of vzdump (pve-guest-common, PVE/VZDump/Common.pm; pve-storage, PVE/Storage/Plugin.pm), and all of their keys.
FORMS: Mapping[str, tuple[Properties, frozenset[str]]] = {
    "prune-backups": (
        Properties(
            booleans=frozenset({"keep-all"}),
            numbers=frozenset(_KEEP),
            excludes={"keep-all=1": _KEEP, **dict.fromkeys(_KEEP, ("keep-all",))},
        ),
        frozenset({"keep-all", *_KEEP}),
    ),
    "fleecing": (
        Properties(default_key="enabled", booleans=frozenset({"enabled"}), defaults={"enabled": "0"}),
        frozenset({"enabled", "storage"}),
    ),
    "performance": (
        Properties(numbers=frozenset({"max-workers", "pbs-entries-max"})),
        frozenset({"max-workers", "pbs-entries-max"}),
    ),
}


@dataclass(frozen=True)
class Volid:
    """The name of a backup. :param kind: qemu or lxc."""

    text: str
    storage: str
    vmid: int
    kind: str


@dataclass(frozen=True)
class Place:
    """A storage for backups as a node sees it. :param shared: the others see the same; None where nobody asked."""

    storage: str
    node: str
    shared: bool | None = None
    online: bool = True


@dataclass(frozen=True)
class Backup:
    """A backup.

    :param node: from which it was seen. :param shared: other nodes see it too. :param kind: qemu or lxc, None where it is unknown.
    :param time: seconds since the epoch at which it was begun.
    :param notes: storages of files tell the first line only.
    :param verification: what a Proxmox Backup Server found when it last looked at it, None where it has not.
    """

    volid: str
    storage: str
    node: str
    shared: bool | None
    vmid: int | None
    kind: str | None
    time: int
    size: int | None
    format: str
    notes: str = ""
    protected: bool = False
    encrypted: bool = False
    verification: str | None = None

    def shown(self, now: int | None) -> dict[str, object]:
        """Return the backup as results show it. :param now: by the server's clock."""
        return {
            "volid": self.volid,
            "storage": self.storage,
            "node": self.node,
            "shared": self.shared,
            "vmid": self.vmid,
            "type": self.kind,
            "time": self.time,
            "age": max(0, now - self.time) if now is not None else None,
            "size": self.size,
            "format": self.format,
            "notes": self.notes,
            "protected": self.protected,
            "encrypted": self.encrypted,
            "verification": self.verification,
        }


def parse_volid(text: str) -> Volid:
    """Return what the name of a backup tells; Refused where it is none."""
    match = _VOLID.fullmatch(text)
    if match is None:
        raise Refused(
            f"'{text}' is no backup of a guest; the volid of one looks like "
            "local:backup/vzdump-qemu-100-2026_11_20-16_01_18.vma.zst or pbs:backup/vm/100/2026-11-20T16:01:18Z. "
            "proxmox_backup_info lists them."
        )
    kind = match["kind"] or {"vm": "qemu", "ct": "lxc"}[match["type"]]
    return Volid(text, match["storage"], int(match["vmid"] or match["id"]), kind)


def seconds(option: str, value: object) -> int:
    """Return the seconds of a time that a person writes: 90, 30m, 24h, 1d12h, 2w; Refused where it is none."""
    text = str(value).strip().lower().replace(" ", "")
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise Refused(f"{option} is '{value}'; write seconds, or a time like 30m, 24h, 7d or 1d12h.")
    return sum(int(count) * unit for count, unit in zip(match.groups(), _SECONDS, strict=True) if count)


def keyed(option: str, name: str, value: Mapping[str, object]) -> dict[str, object]:
    """Return a dictionary of options under the server's own keys, which have hyphens; Refused for keys that there are not.

    :param option: what people call it. :param name: a key of FORMS.
    """
    known = FORMS[name][1]
    found = {str(key).replace("_", "-"): entry for key, entry in value.items()}
    for key in sorted(found.keys() - known):
        raise Refused(f"{option} has no '{key}'; it has {', '.join(sorted(known))}.")
    return found


def property_string(option: str, name: str, value: Mapping[str, object] | None) -> str | None:
    """Return the property string of such a dictionary, None where it says nothing."""
    if not value:
        return None
    form = FORMS[name][0]
    try:
        return format_properties(form, parse_properties(form, keyed(option, name, value)))
    except ValueError as error:
        raise Refused(f"{option}: {error}.") from error


def places(rows: Iterable[Mapping[str, Any]], storage: str | None = None, node: str | None = None) -> list[Place]:
    """Return where backups may be, by rows of /cluster/resources: a shared storage once, others for each node.

    :param storage: only this one. :param node: only what this node sees.
    :raises Refused: there is no such storage or no such node, or the storage keeps no backups.
    """
    rows = list(rows)
    nodes = {row["node"] for row in rows if row["type"] == "node"}
    if node is not None and node not in nodes:
        raise no_such_node(node, nodes)
    found = [row for row in rows if row["type"] == "storage" and storage in (None, row["storage"])]
    down = {row["node"] for row in rows if row["type"] == "node" and row.get("status") == "offline"}
    kept = [row for row in found if "backup" in words(row.get("content")) and node in (None, row["node"])]
    if storage is not None and not kept:
        where = f" on node {node}" if node is not None else ""
        raise Refused(
            f"The storage '{storage}' keeps no backups{where}: its content does not name them."
            if found
            else f"There is no storage '{storage}'{where}, or the credentials may not see it (Datastore.Audit on "
            f"/storage/{storage})."
        )
    seen: set[str] = set()
    result = []
    # One that is heard of is asked rather than one that is not.
    for row in sorted(
        kept, key=lambda row: (row["storage"], row["node"] in down, row.get("status") != "available", row["node"])
    ):
        shared = is_true(row.get("shared"))
        if not shared or row["storage"] not in seen:
            result.append(Place(row["storage"], row["node"], shared, row["node"] not in down))
        seen.add(row["storage"])
    return result


def listed(reader: Reader, place: Place, vmid: int | None = None) -> list[Backup]:
    """Return the backups there, newest first. :param vmid: only of this guest."""
    query = {"content": "backup"} if vmid is None else {"content": "backup", "vmid": vmid}
    rows = reader.get(f"/nodes/{place.node}/storage/{place.storage}/content", **query)
    return newest_first(_backup(row, place) for row in rows)


def _backup(row: Mapping[str, Any], place: Place) -> Backup:
    verification = row.get("verification")
    kind = row.get("subtype")
    size = row.get("size")
    return Backup(
        volid=row["volid"],
        storage=place.storage,
        node=place.node,
        shared=place.shared,
        vmid=int(row["vmid"]) if row.get("vmid") is not None else None,
        kind=kind if kind in KINDS else None,
        time=int(row.get("ctime") or 0),
        size=int(number(size)) if size is not None else None,
        format=str(row.get("format") or ""),
        notes=str(row.get("notes") or ""),
        protected=is_true(row.get("protected")),
        encrypted=bool(row.get("encrypted")),
        verification=str(verification.get("state")) if verification and verification.get("state") else None,
    )


def newest_first(backups: Iterable[Backup]) -> list[Backup]:
    return sorted(backups, key=lambda backup: (-backup.time, backup.volid, backup.node))


def survey(
    reader: Reader, where: Sequence[Place], vmid: int | None = None
) -> tuple[list[Backup], list[dict[str, str]]]:
    """Return the backups in all places, newest first, and the places that could not be asked with the reason."""
    found: list[Backup] = []
    silent: list[dict[str, str]] = []
    for place in where:
        if not place.online:
            silent.append({"storage": place.storage, "node": place.node, "message": f"Node {place.node} is down."})
            continue
        try:
            found += listed(reader, place, vmid)
        except ProxmoxError as error:
            if error.status in (401, 403) or error.status is None:
                raise
            silent.append({"storage": place.storage, "node": place.node, "message": error.message})
    return newest_first(found), silent
