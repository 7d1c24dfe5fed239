# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Capacity: on which nodes a guest of some size would fit, and which of them has the most room.

One look at ``/cluster/resources`` tells it all. The memory of a node counts twice: as it is used now, and as it was promised to the
guests that run there. The server itself checks neither before it starts a guest (PVE/API2/Qemu.pm, vm_start), and the CPUs
only in so far as a VM may not have more of them than its node (PVE/QemuServer.pm, config_to_command).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import Refused, no_such_node
from .guests import KINDS
from .plan import Feature, Reader
from .wire import is_true, measurement, parse_wanted_size, words

Row = Mapping[str, Any]

AUTO = "auto"
MIB = 1024**2
GIB = 1024**3

# What a storage must be willing to hold for the disks of a guest.
CONTENT = {"qemu": "images", "lxc": "rootdir"}


@dataclass(frozen=True)
class Size:
    """What one guest needs. :param memory: bytes. :param cores: of all sockets. :param disk: bytes on one storage.

    :param storage: where the disk must be; None for whichever of the node's storages has the most space.
    :param kind: qemu or lxc.
    """

    memory: int = 0
    cores: int = 0
    disk: int = 0
    storage: str | None = None
    kind: str = "qemu"


@dataclass(frozen=True)
class Room:
    """What a node has left.

    :param obstacles: why no guest of the size fits. :param count: how many of them fit, None where nothing bounds it.
    :param free: bytes of memory that are neither used nor promised, None where the credentials may not see it.
    :param storage: where the disk would be, and :param space: bytes that are free there.
    """

    node: str
    obstacles: tuple[str, ...] = ()
    count: int | None = None
    memory: int | None = None
    used: int | None = None
    promised: int = 0
    free: int | None = None
    cpus: int | None = None
    cpu_usage: float | None = None
    running: int = 0
    storage: str | None = None
    space: int | None = None

    @property
    def fits(self) -> bool:
        return not self.obstacles

    def shown(self) -> dict[str, object]:
        """Return the room as results show it; sizes in bytes."""
        return {
            "node": self.node,
            "fits": self.fits,
            "count": self.count,
            "obstacles": list(self.obstacles),
            "memory": self.memory,
            "memory_used": self.used,
            "memory_promised": self.promised,
            "memory_free": self.free,
            "cpus": self.cpus,
            "cpu_usage": self.cpu_usage,
            "running_guests": self.running,
            "storage": self.storage,
            "storage_free": self.space,
        }


@dataclass(frozen=True)
class Wanted:
    """:param nodes: those that may be chosen, empty for all. :param without: those that may not.

    :param overcommit: how much of a node's memory may be promised, 1 for all of it.
    """

    size: Size
    nodes: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    overcommit: float = 1.0


def rooms(rows: Sequence[Row], want: Wanted, *, moving: int | None = None) -> list[Room]:
    """Return the nodes, the one with the most room first.

    :param rows: everything that /cluster/resources lists.
    :param moving: VMID of the guest that a place is wanted for, where it exists already; it does not stand in its own way.
    """
    names = sorted(row["node"] for row in rows if row["type"] == "node")
    unknown = sorted((want.nodes | want.without) - set(names))
    if unknown:
        raise no_such_node(unknown[0], names)
    found = [
        _room(row, rows, want, moving)
        for row in rows
        if row["type"] == "node" and (not want.nodes or row["node"] in want.nodes) and row["node"] not in want.without
    ]
    return sorted(found, key=_rank)


def _rank(room: Room) -> tuple[bool, float, float, str]:
    """What fits goes first, then what has the larger share of its memory left, then what is less busy."""
    share = room.free / room.memory if room.free is not None and room.memory else -1.0
    return not room.fits, -share, room.cpu_usage or 0.0, room.node


def best(rows: Sequence[Row], want: Wanted, *, moving: int | None = None) -> str:
    """Return the node with the most room; Refused with every obstacle where there is none."""
    found = rooms(rows, want, moving=moving)
    if found and found[0].fits:
        return found[0].node
    told = "; ".join(f"{room.node}: {', '.join(room.obstacles)}" for room in found) or "no node may be chosen"
    raise Refused(f"There is no node with room for it ({told}).")


def _room(row: Row, rows: Sequence[Row], want: Wanted, moving: int | None) -> Room:
    node, size = row["node"], want.size
    guests = [
        other
        for other in rows
        if other["type"] in KINDS and other["node"] == node and int(other["vmid"]) != moving and _runs(other)
    ]
    promised = sum(_int(guest.get("maxmem")) or 0 for guest in guests)
    memory, used = _int(row.get("maxmem")), _int(row.get("mem"))
    free = None
    if memory is not None and used is not None:
        free = min(memory - used, int(memory * want.overcommit) - promised)
    cpus = _int(row.get("maxcpu"))
    storage, space = _storage(rows, node, size)
    bounds = [
        *([max(free, 0) // size.memory] if free is not None and size.memory else []),
        *([space // size.disk] if space is not None and size.disk else []),
    ]
    obstacles = tuple(_obstacles(row, size, memory, free, cpus, storage, space, rows))
    return Room(
        node,
        obstacles,
        0 if obstacles else min(bounds, default=None),
        memory,
        used,
        promised,
        free,
        cpus,
        measurement(row.get("cpu")),
        len(guests),
        storage,
        space,
    )


def _runs(row: Row) -> bool:
    return row.get("status") not in ("stopped", "unknown", None) and not is_true(row.get("template"))


def _obstacles(
    row: Row,
    size: Size,
    memory: int | None,
    free: int | None,
    cpus: int | None,
    storage: str | None,
    space: int | None,
    rows: Sequence[Row],
) -> Iterator[str]:
    node = row["node"]
    if row.get("status") == "offline":
        yield "is down"
        return
    if row.get("hastate") == "maintenance":
        yield "is in maintenance"
    if size.memory and free is None:
        yield f"its memory is not known (Sys.Audit on /nodes/{node})"
    elif size.memory and free is not None and free < size.memory:
        yield f"{_gib(free)} of {_gib(memory or 0)} of memory are free, {_gib(size.memory)} are needed"
    if cpus is not None and size.cores > cpus:
        yield f"has {cpus} CPUs, {size.cores} are needed"
    if not size.disk and size.storage is None:
        return
    if storage is None:
        what = f"no storage '{size.storage}'" if size.storage is not None else "no storage"
        yield f"has {what} that is available and takes {CONTENT[size.kind]} (Datastore.Audit shows it)"
    elif space is not None and space < size.disk:
        yield f"{_gib(space)} are free on storage '{storage}', {_gib(size.disk)} are needed"


def _storage(rows: Sequence[Row], node: str, size: Size) -> tuple[str | None, int | None]:
    """Return the storage that a disk would go to and the bytes that are free there."""
    if not size.disk and size.storage is None:
        return None, None
    usable = [
        (size_there - (_int(row.get("disk")) or 0), str(row["storage"]))
        for row in rows
        if row["type"] == "storage"
        and row["node"] == node
        and row.get("status") == "available"
        and (size_there := _int(row.get("maxdisk"))) is not None
        and CONTENT[size.kind] in words(row.get("content"))
        and size.storage in (None, row["storage"])
    ]
    space, name = max(usable, default=(None, None))
    return name, space


def _int(value: object) -> int | None:
    found = measurement(value)
    return None if found is None else int(found)


def _gib(size: int) -> str:
    return f"{max(size, 0) / GIB:.1f} GiB"


# The module


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    for option in ("memory", "cores"):
        if (options.get(option) or 0) < 0:
            raise Refused(f"{option}={options[option]} is less than nothing.")
    overcommit = float(options["overcommit"])
    if not 0 < overcommit < math.inf:
        raise Refused(f"overcommit={overcommit} must be a number above 0; 1 promises each byte once.")
    disk = options.get("disk")
    return Wanted(
        Size(
            (options.get("memory") or 0) * MIB,
            options.get("cores") or 0,
            _disk(disk),
            options.get("storage"),
            options["type"],
        ),
        names(options.get("nodes")),
        names(options.get("exclude_nodes")),
        overcommit,
    )


def _disk(text: str | None) -> int:
    try:
        return parse_wanted_size(text) if text is not None else 0
    except ValueError as error:
        raise Refused(f"disk: {error}.") from error


def names(option: Collection[str] | None) -> frozenset[str]:
    """Return the nodes that an option names."""
    return frozenset(name.strip() for name in option or () if name.strip())


def observe(want: Wanted, reader: Reader, previous: list[Room] | None) -> list[Room]:
    """Return the nodes, the one with the most room first; one request."""
    return rooms(reader.get("/cluster/resources"), want)


def result(want: Wanted, observed: list[Room]) -> Mapping[str, object]:
    """Return the best node and all of them."""
    best_one = observed[0] if observed and observed[0].fits else None
    return {
        "best": best_one.node if best_one is not None else None,
        "nodes": [room.shown() for room in observed],
    }


FEATURE = Feature(wanted, observe, None, result)
