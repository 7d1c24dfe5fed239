# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Property strings: the comma-separated values of drives and network devices.

Sources: pve-common, PVE/JSONSchema.pm (parse_property_string, print_property_string, parse_size, format_size); qemu-server,
PVE/QemuServer/Drive.pm and PVE/QemuServer/Network.pm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .http import die

_NIC_MODELS = """
    e1000 e1000-82540em e1000-82544gc e1000-82545em e1000e i82551 i82557b i82559er ne2k_isa ne2k_pci pcnet rtl8139 virtio vmxnet3
"""
_DRIVE_BOOLEANS = "snapshot backup replicate detect_zeroes shared iothread ro scsiblock ssd pre-enrolled-keys"
_MOUNT_BOOLEANS = "acl backup quota ro replicate shared keepattrs"
LENGTHS = {f"{kind}{way}_length": f"{kind}{way}_max_length" for kind in ("bps", "iops") for way in ("_rd", "_wr")}


@dataclass(frozen=True)
class Format:
    """What parsing and printing need to know of a format."""

    default_key: str
    booleans: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    # Keys that are values of another one: `virtio=MAC` is model=virtio, macaddr=MAC.
    combined: frozenset[str] = frozenset()
    combine: tuple[str, str] | None = None


DRIVE = Format("file", frozenset(_DRIVE_BOOLEANS.split()), {"volume": "file", **LENGTHS})
NET = Format(
    "model",
    frozenset(["firewall", "link_down", "host-tunnel"]),
    {},
    frozenset(_NIC_MODELS.split()),
    ("model", "macaddr"),
)
MOUNT = Format("volume", frozenset(_MOUNT_BOOLEANS.split()))
LXC_NET = Format("", frozenset(["firewall", "link_down", "host-managed"]))


def parse_boolean(text: str) -> str:
    """`1` or `0` of a boolean; what it is not stays as it is."""
    word = text.lower()
    if word in ("1", "on", "yes", "true"):
        return "1"
    return "0" if word in ("0", "off", "no", "false") else text


def parse(form: Format, text: str) -> dict[str, str]:
    """The keys and values of a property string that the schema has already let pass."""
    values: dict[str, str] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        key, equals, value = part.partition("=")
        if not equals:
            key, value = form.default_key, part
        if key in form.combined and form.combine is not None:
            values[form.combine[0]], values[form.combine[1]] = key, value
            continue
        key = form.aliases.get(key, key)
        values[key] = parse_boolean(value) if key in form.booleans else value
    return values


def show(form: Format, values: Mapping[str, str]) -> str:
    """A property string: the default key first, then the keys in order."""
    parts: list[str] = []
    rest = dict(values)
    if form.combine is not None and form.combine[1] in rest:
        parts.append(f"{rest.pop(form.combine[0])}={rest.pop(form.combine[1])}")
    elif form.default_key and form.default_key in rest:
        parts.append(rest.pop(form.default_key))
    parts += [f"{key}={rest[key]}" for key in sorted(rest)]
    return ",".join(parts)


def parse_drive(key: str, text: str) -> dict[str, str]:
    """A drive's keys; rates in bytes become rates in megabytes.

    Raises:
        ApiError: what the schema lets pass and parse_drive does not.
    """
    drive = parse(DRIVE, text)
    bad = die(f"unable to parse drive options for '{key}'")
    for name in ("bps", "bps_rd", "bps_wr"):
        if name in drive:
            if f"m{name}" in drive:
                raise bad
            drive[f"m{name}"] = f"{int(drive.pop(name)) / 1024**2:.3f}"
    for total, one in (("mbps", "mbps_rd"), ("mbps", "mbps_wr"), ("iops", "iops_rd"), ("iops", "iops_wr")):
        if total in drive and one in drive:
            raise bad
    if drive.get("media") == "cdrom" and (
        "format" in drive or drive.get("snapshot") == "1" or key.startswith("virtio")
    ):
        raise bad
    if "size" in drive:
        drive["size"] = format_size(parse_size(drive["size"]))
    return drive


def show_drive(drive: Mapping[str, str]) -> str:
    """A drive as it is stored."""
    return show(DRIVE, drive)


def parse_size(text: str) -> int:
    """Bytes of `32G`, `1.5T` or `512`.

    Raises:
        ApiError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT])?(?:iB)?", text)
    if not found:
        raise die(f"unable to parse size '{text}'")
    return int(float(found[1]) * 1024 ** ("KMGT".index(found[2]) + 1 if found[2] else 0))


def format_size(size: int) -> str:
    """A size with the largest unit that divides it."""
    for unit in ("", "K", "M", "G"):
        if size % 1024 or size == 0:
            return f"{size}{unit}"
        size //= 1024
    return f"{size}T"


def split_list(text: str) -> list[str]:
    """The entries of a list in one text."""
    return [entry for entry in re.split(r"[,;\s\0]+", text) if entry]
