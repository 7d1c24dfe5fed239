# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What answers look like: of each that the collection reads, the keys that it uses and the types of their values.

The types are those that the server really sends, not those of its schema: Perl may write a number as a string and the other way
round (recorded with Proxmox VE 9.2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

# Leaves: TEXT is a string (a number is made one), NUMBER a finite number or the text of one, SCALAR anything without parts, and
# NAME a text that can stand in a path.
TEXT, NUMBER, SCALAR, NAME, ANY = "text", "number", "value without parts", "name", "anything"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WORDS = {dict: "an object", list: "a list", type(None): "null", str: "a text", bool: "a boolean"}


@dataclass(frozen=True)
class Rows:
    """A list of one kind of things."""

    of: Shape


@dataclass(frozen=True)
class Values:
    """An object with any keys. :param special: keys whose values are of another shape."""

    of: Shape
    special: Mapping[str, Shape] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """An object with known keys. :param needed: must be there. :param known: may be there or null; other keys may hold anything.

    :param by: key whose value tells what else must be there. :param needed_by: keys for each such value.
    """

    needed: Mapping[str, Shape] = field(default_factory=dict)
    known: Mapping[str, Shape] = field(default_factory=dict)
    by: str | None = None
    needed_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Either:
    """One of several shapes."""

    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Optional:
    """A shape, or null."""

    of: Shape


Shape: TypeAlias = "str | Rows | Values | Record | Either | Optional"

_GUEST = {
    **dict.fromkeys(("name", "status", "lock", "tags", "pool", "qmpstatus", "hastate"), TEXT),
    **dict.fromkeys(("uptime", "maxmem"), NUMBER),
    **dict.fromkeys(("cpu", "maxcpu", "mem", "disk", "maxdisk"), SCALAR),
}
_CONFIG = Values(SCALAR, {"lxc": Rows(Rows(SCALAR))})
_ADDRESSES = Rows(Record(known={"ip-address": TEXT, "prefix": SCALAR}))
_INTERFACE = dict.fromkeys(("name", "hwaddr", "hardware-address", "inet", "inet6"), TEXT) | {"ip-addresses": _ADDRESSES}
_TASK = {
    **dict.fromkeys(("type", "id", "user", "tokenid", "status"), TEXT),
    **dict.fromkeys(("starttime", "endtime"), NUMBER),
    "node": NAME,
}
_AGENT_ERROR = Record({"error": Record(known={"desc": TEXT})})
_COMMANDS = Record({"supported_commands": Rows(Record({"name": TEXT}, {"enabled": SCALAR}))}, {"version": TEXT})
_BARS = Values(
    Record(
        known={
            "unavailable-resources": Rows(TEXT),
            "unavailable_storages": Rows(TEXT),
            "blocking-ha-resources": Rows(Record({"sid": TEXT, "cause": TEXT})),
        }
    )
)
_GUEST_PATH = r"/nodes/[^/]+/(qemu|lxc)/\d+"

# Path -> what it answers to GET; the first that matches.
SHAPES: tuple[tuple[str, Shape], ...] = (
    (
        r"/cluster/resources",
        Rows(
            Record(
                {"type": TEXT},
                {**_GUEST, "id": TEXT, "vmid": NUMBER, "node": NAME, "storage": TEXT},
                by="type",
                needed_by={
                    **dict.fromkeys(("qemu", "lxc"), ("id", "vmid", "node")),
                    "node": ("id", "node"),
                    "storage": ("storage", "node"),
                },
            )
        ),
    ),
    (r"/cluster/status", Rows(Record({"type": TEXT, "name": TEXT}, {"ip": TEXT}))),
    (r"/cluster/nextid", NUMBER),
    (r"/cluster/options", Optional(Record(known={"tag-style": Either((TEXT, Values(SCALAR)))}))),
    (r"/cluster/replication", Rows(Record(known={"guest": SCALAR, "target": SCALAR}))),
    (r"/access/permissions", Values(Values(SCALAR))),
    (r"/storage", Rows(Record({"storage": TEXT, "type": TEXT}, {"nodes": TEXT, "content": TEXT}))),
    (r"/nodes", Rows(Record({"node": NAME}, {"status": TEXT, "mem": NUMBER, "maxmem": NUMBER}))),
    (r"/nodes/[^/]+/(qemu|lxc)", Rows(Record({"vmid": NUMBER}, _GUEST))),
    (
        r"/nodes/[^/]+/status",
        Record(
            known={
                "pveversion": TEXT,
                "loadavg": Rows(SCALAR),
                "cpuinfo": Record(known={"model": TEXT, "sockets": SCALAR, "cores": SCALAR}),
                "current-kernel": Record(known={"release": TEXT}),
                "boot-info": Record(known={"mode": TEXT}),
                **dict.fromkeys(("memory", "swap", "rootfs"), Values(SCALAR)),
            }
        ),
    ),
    (r"/nodes/[^/]+/aplinfo", Rows(Record(known={"template": TEXT}))),
    (r"/nodes/[^/]+/version", Record({"version": TEXT})),
    (r"/nodes/[^/]+/((qemu|lxc)/\d+/|storage/[^/]+/)?rrddata", Rows(Values(SCALAR))),
    (
        r"/nodes/[^/]+/storage/[^/]+/content",
        Rows(
            Record(
                {"volid": TEXT},
                {
                    **dict.fromkeys(("vmid", "ctime", "size"), NUMBER),
                    **dict.fromkeys(("format", "subtype", "notes", "encrypted"), TEXT),
                    "verification": Record(known={"state": TEXT}),
                },
            )
        ),
    ),
    (r"/nodes/[^/]+/storage/[^/]+/content/.+", Record(known={"notes": TEXT, "format": TEXT, "size": NUMBER})),
    (
        r"/cluster/backup",
        Rows(
            Record(
                {"id": TEXT},
                {
                    **dict.fromkeys(("fleecing", "performance", "prune-backups"), Either((Values(SCALAR), TEXT))),
                    "exclude-path": Either((Rows(TEXT), TEXT)),
                },
            )
        ),
    ),
    (r"/nodes/[^/]+/vzdump/extractconfig", TEXT),
    (r"/nodes/[^/]+/tasks", Rows(Record({"upid": TEXT}, _TASK))),
    (r"/nodes/[^/]+/tasks/.+/status", Record({"status": TEXT}, {**_TASK, "exitstatus": TEXT})),
    (r"/nodes/[^/]+/tasks/.+/log", Rows(Record(known={"t": TEXT}))),
    (rf"{_GUEST_PATH}/status/current", Record({"status": TEXT}, {**_GUEST, "ha": Record(known={"state": TEXT})})),
    (rf"{_GUEST_PATH}/(snapshot/[^/]+/)?config", _CONFIG),
    (
        rf"{_GUEST_PATH}/pending",
        Rows(Record({"key": TEXT}, {"value": SCALAR, "pending": SCALAR, "delete": NUMBER})),
    ),
    (
        rf"{_GUEST_PATH}/snapshot",
        Rows(Record({"name": NAME}, {"parent": NAME, "description": TEXT, "snaptime": NUMBER, "snapstate": TEXT})),
    ),
    (rf"{_GUEST_PATH}/feature", Record(known={"hasFeature": SCALAR})),
    (
        rf"{_GUEST_PATH}/migrate",
        Record(
            known={
                "not_allowed_nodes": _BARS,
                "not-allowed-nodes": _BARS,
                "mapped-resource-info": Values(Record()),
                "mapped-resources": Rows(TEXT),
                "local_resources": Rows(TEXT),
                "local_disks": Rows(Record({"volid": TEXT}, {"drivename": TEXT})),
                "dependent-ha-resources": Rows(TEXT),
            }
        ),
    ),
    (rf"{_GUEST_PATH}/interfaces", Optional(Rows(Record(known=_INTERFACE)))),
    (
        rf"{_GUEST_PATH}/agent/network-get-interfaces",
        Record({"result": Either((Rows(Record(known=_INTERFACE)), _AGENT_ERROR))}),
    ),
    (rf"{_GUEST_PATH}/agent/info", Record({"result": Either((_COMMANDS, _AGENT_ERROR))})),
    (rf"{_GUEST_PATH}/agent/get-(osinfo|host-name)", Record({"result": Either((_AGENT_ERROR, Values(SCALAR)))})),
    (
        rf"{_GUEST_PATH}/agent/exec-status",
        Record(
            {"exited": SCALAR},
            {
                **dict.fromkeys(("exitcode", "signal"), NUMBER),
                **dict.fromkeys(("out-data", "err-data"), TEXT),
                **dict.fromkeys(("out-truncated", "err-truncated"), SCALAR),
            },
        ),
    ),
    (rf"{_GUEST_PATH}/agent/file-read", Record({"content": TEXT}, {"truncated": SCALAR})),
)

TICKET = Record({"ticket": TEXT}, {"CSRFPreventionToken": TEXT, "NeedTFA": SCALAR})


def shape_of(path: str) -> Shape:
    """Return what GET of the path answers; anything where the collection does not read it."""
    # Compiled when first needed, for a task asks few of these paths.
    return next((shape for pattern, shape in SHAPES if re.fullmatch(pattern, path)), ANY)


def flaw(shape: Shape, data: Any, where: str = "it") -> str | None:
    """Return what is wrong with data, None where it is of the shape. Numbers where a text belongs become texts.

    :param where: what to call the data.
    """
    if isinstance(shape, str):
        return _leaf(shape, data, where)
    if isinstance(shape, Optional):
        return None if data is None else flaw(shape.of, data, where)
    if isinstance(shape, Either):
        flaws = [flaw(one, data, where) for one in shape.shapes]
        return None if None in flaws else flaws[0]
    if isinstance(shape, Rows):
        if not isinstance(data, list):
            return f"{where} is {_called(data)}, not a list"
        for index, one in enumerate(data):
            wrong = flaw(shape.of, one, f"entry {index}" if where == "it" else f"entry {index} of {where}")
            if wrong is not None:
                return wrong
            if shape.of == TEXT:
                data[index] = str(one)
        return None
    if not isinstance(data, dict):
        return f"{where} is {_called(data)}, not an object"
    if isinstance(shape, Values):
        return next(filter(None, (_entry(shape.special.get(key, shape.of), data, key, where) for key in data)), None)
    return _record(shape, data, where)


def _record(shape: Record, data: dict[str, Any], where: str) -> str | None:
    needed = (*shape.needed, *(shape.needed_by.get(str(data.get(shape.by)), ()) if shape.by is not None else ()))
    for key in needed:
        if data.get(key) is None:
            return f"{where} has no '{key}'"
    for expected in (shape.needed, shape.known):
        for key, of in expected.items():
            value = data.get(key)
            # Most are what they should be, and there may be thousands.
            if value is None or of in _PLAIN.get(type(value), ()):
                continue
            wrong = _entry(of, data, key, where)
            if wrong is not None:
                return wrong
    return None


def _entry(of: Shape, data: dict[str, Any], key: str, where: str) -> str | None:
    wrong = flaw(of, data[key], f"'{key}' of {where}")
    if wrong is None and of in (TEXT, NAME):
        data[key] = str(data[key])
    return wrong


_PLAIN = {str: (TEXT, SCALAR), int: (NUMBER, SCALAR), float: (SCALAR,)}


def _leaf(shape: str, data: Any, where: str) -> str | None:
    kind = type(data)
    if shape == ANY:
        good = True
    elif shape == SCALAR:
        good = kind not in (dict, list)
    elif shape == NUMBER:
        good = _is_number(data)
    elif shape == NAME:
        good = kind in (str, int) and _NAME.fullmatch(str(data)) is not None
    else:
        good = kind in (str, int, float)
    return None if good else f"{where} is {_called(data)}, not a {shape}"


def _is_number(data: Any) -> bool:
    if isinstance(data, str):
        return re.fullmatch(r"\s*-?\d{1,30}\s*", data, re.ASCII) is not None
    if isinstance(data, float):
        return math.isfinite(data)
    return isinstance(data, int) and not isinstance(data, bool) and abs(data) < 2**63


def _called(data: Any) -> str:
    """Return what to call a value that does not belong: its type, and of simple ones the beginning."""
    if type(data) in (str, int, float):
        text = str(data) if not isinstance(data, int) or abs(data) < 10**40 else "a very large number"
        return f"'{text[:40]}{'…' if len(text) > 40 else ''}'"
    return _WORDS.get(type(data), type(data).__name__)
