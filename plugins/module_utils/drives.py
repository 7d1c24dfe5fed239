# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks, CD drives and mount points: from what a task wants in a slot and what is there to what is to be sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from .errors import Refused
from .options import Change, is_empty, properties_of, removal
from .wire import (
    Properties,
    format_properties,
    format_size,
    gibibytes,
    meaning,
    merge_properties,
    number,
    number_text,
    parse_properties,
    parse_size,
    parse_wanted_size,
    shown_properties,
)

# Storages round up: LVM by default to 4 MiB. A disk that much larger than wanted has the wanted size.
ROUNDING = 4 * 1024**2

# PVE/QemuServer/Drive.pm, drive_is_cloudinit and NEW_DISK_RE.
_CLOUDINIT = re.compile(r"[:/](?:vm-\d+-)?cloudinit(?:\.(?:raw|qcow2?|qed|vmdk|cloop))?$")
_NEW_VOLUME = re.compile(r"^([^/:\s]+):(\d+(?:\.\d+)?)$")

# The size of these is the server's own.
_OWN_SIZE = frozenset({"efidisk0", "tpmstate0"})

# Module's words for what a slot holds; everything else is an option of the drive.
WORDS = frozenset(
    {"storage", "size", "format", "volume", "file", "import_from", "import-from", "cdrom", "iso", "cloudinit"}
)


@dataclass(frozen=True)
class Disk:
    """What a task wants in a slot.

    :param size: bytes. :param format: of a volume that has to be made.
    :param volume: an existing volume, or unusedN. :param cdrom: an ISO image, none or cdrom. :param cloudinit: storage.
    :param options: of the drive, under the server's names; an empty one is to be removed.
    """

    storage: str | None = None
    size: int | None = None
    format: str | None = None
    volume: str | None = None
    import_from: str | None = None
    cdrom: str | None = None
    cloudinit: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Slot:
    """What there is.

    :param text: the server's value with what is pending, None for an empty slot. :param size: bytes, of the volume as it is now.
    :param pending: whether that value waits for a restart.
    """

    key: str
    form: Properties
    text: str | None
    size: int | None
    pending: bool = False

    @property
    def found(self) -> dict[str, str]:
        return {} if self.text is None else parse_properties(self.form, self.text)

    @property
    def volume(self) -> str | None:
        return self.found.get(self.form.default_key or "")

    @property
    def is_cloudinit(self) -> bool:
        return self.volume is not None and is_cloudinit(self.volume)

    @property
    def is_cdrom(self) -> bool:
        return self.found.get("media") == "cdrom" and not self.is_cloudinit


def is_cloudinit(volume: str) -> bool:
    """Tell whether the volume is a cloud-init drive."""
    return bool(_CLOUDINIT.search(volume))


def slot(kind: str, key: str, text: str | None, current: str | None = None) -> Slot:
    """Return what is in a slot. :param current: the value without what is pending, whose size a resize keeps up to date."""
    form = properties_of(kind, key)
    sizes = [parse_properties(form, value).get("size") for value in (current, text) if value is not None]
    size = next((parse_size(text) for text in sizes if text is not None), None)
    return Slot(key, form, text, size, pending=current is not None and text is not None and text != current)


def parse_disk(kind: str, key: str, value: object) -> Disk:
    """Return what a task wants in a slot, from its dictionary or the server's own string; ValueError for contradictions."""
    form = properties_of(kind, key)
    if not isinstance(value, Mapping):
        return _checked(kind, _from_text(form, key, str(value)))
    named = {str(name): entry for name, entry in value.items() if entry is not None}
    iso, cdrom = named.get("iso"), named.get("cdrom")
    if iso is not None and cdrom is not None:
        raise ValueError("cdrom and iso are two names of the same")
    cdrom = cdrom if cdrom is not None else iso
    if isinstance(cdrom, bool):
        cdrom = "cdrom" if cdrom else "none"
    volume = named.get("volume", named.get("file"))
    import_from = named.get("import_from", named.get("import-from"))
    options = {name: entry for name, entry in named.items() if name not in WORDS}
    disk = Disk(
        storage=_text(named.get("storage")),
        size=None if named.get("size") is None or key in _OWN_SIZE else parse_wanted_size(named["size"]),
        format=_text(named.get("format")),
        volume=_text(volume),
        import_from=_text(import_from),
        cdrom=_text(cdrom),
        cloudinit=_text(named.get("cloudinit")),
        options=_options(form, parse_properties(form, options)),
    )
    return _checked(kind, disk)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _from_text(form: Properties, key: str, text: str) -> Disk:
    """Return what the server's string wants: local-lvm:32,discard=on allocates, local:iso/a.iso,media=cdrom inserts."""
    found = parse_properties(form, text)
    volume = found.pop(form.default_key or "", None)
    named_size = found.pop("size", None)
    common = Disk(
        size=None if named_size is None or key in _OWN_SIZE else parse_size(named_size),
        format=found.pop("format", None),
        import_from=found.pop("import-from", None),
    )
    new = _NEW_VOLUME.match(volume or "")
    if volume is not None and volume.endswith(":cloudinit"):
        found.pop("media", None)
        disk = replace(common, cloudinit=volume.partition(":")[0], size=None)
    elif found.get("media") == "cdrom" or volume in ("none", "cdrom"):
        found.pop("media", None)
        disk = replace(common, cdrom=volume, size=None)
    elif new is not None:
        given = common.import_from is not None or key in _OWN_SIZE
        size = common.size if given else parse_wanted_size(new[2])
        disk = replace(common, storage=new[1], size=size)
    else:
        disk = replace(common, volume=volume)
    return replace(disk, options=_options(form, found))


def _options(form: Properties, options: Mapping[str, str]) -> dict[str, str]:
    """Return options as the server keeps them: limits in bytes become limits in MiB (PVE/QemuServer/Drive.pm, parse_drive)."""
    found = dict(options)
    for key in ("bps", "bps_rd", "bps_wr"):
        if key in form.numbers and found.get(key):
            rate = number(found.pop(key)) / 1024**2
            found[f"m{key}"] = number_text(rate.quantize(Decimal("0.001")))
    return found


def _checked(kind: str, disk: Disk) -> Disk:
    ways = {"cdrom": disk.cdrom, "cloudinit": disk.cloudinit, "volume": disk.volume, "import_from": disk.import_from}
    named = [way for way, value in ways.items() if value is not None]
    if kind == "lxc" and set(named) - {"volume"}:
        raise ValueError(f"containers have no {named[0]}")
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} exclude each other")
    if (disk.cdrom is not None or disk.cloudinit is not None) and (disk.size is not None or disk.storage is not None):
        raise ValueError(f"storage and size are for disks, and this is {named[0]}")
    return disk


# --- what becomes of a slot ---


def settle_disk(
    guest: str, kind: str, here: Slot, wanted: object, unused: Mapping[str, str]
) -> tuple[Change, int | None]:
    """Return what becomes of a slot and the size in bytes that its disk has to grow to, None where it need not grow.

    :param guest: for messages. :param unused: unusedN -> volume, of the guest.
    :raises Refused: where the slot cannot become what is wanted. ValueError for values that nothing can be.
    """
    if is_empty(wanted):
        return removal(here.form, here.text), None
    disk = parse_disk(kind, here.key, wanted)
    where = f"{here.key} of {guest}"
    if here.text is None:
        return _fill(where, here, disk, unused)
    if disk.cdrom is not None or disk.cloudinit is not None:
        return _exchange(where, here, disk), None
    if here.is_cdrom or here.is_cloudinit:
        if not _names_a_volume(disk):
            return _merged(here, disk, here.volume), None
        raise Refused(
            f"{where} is a CD drive ({here.volume}), and a disk is wanted there; remove it first with absent: [{here.key}]."
        )
    _check_volume(where, here, disk, unused)
    size = _growth(where, here, disk)
    return _merged(here, disk, here.volume, size), size


def _names_a_volume(disk: Disk) -> bool:
    return any(value is not None for value in (disk.storage, disk.size, disk.volume, disk.import_from))


def _fill(where: str, here: Slot, disk: Disk, unused: Mapping[str, str]) -> tuple[Change, int | None]:
    """Return how an empty slot gets its volume."""
    head, extra, shown = _new(where, here, disk, unused)
    found = merge_properties(here.form, {}, disk.options)
    after = {**shown, **shown_properties(here.form, found, disk.options)}
    text = format_properties(here.form, {here.form.default_key or "": head, **extra, **found})
    return Change(None, after, text), disk.size if disk.import_from is not None else None


def _new(where: str, here: Slot, disk: Disk, unused: Mapping[str, str]) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return volume, further keys and what people see of a new drive."""
    made = {} if disk.format is None else {"format": disk.format}
    size = {} if disk.size is None else {"size": format_size(disk.size)}
    if disk.cdrom is not None:
        return disk.cdrom, {"media": "cdrom"}, {"cdrom": disk.cdrom}
    if disk.cloudinit is not None:
        return f"{disk.cloudinit}:cloudinit", made, {"cloudinit": disk.cloudinit}
    if disk.volume is not None:
        volume = _resolved(where, disk.volume, unused)
        return volume, {}, {"volume": volume, **size}
    if disk.storage is not None and disk.import_from is not None:
        return f"{disk.storage}:0", {"import-from": disk.import_from, **made}, {"storage": disk.storage, **size}
    if disk.storage is not None and (disk.size is not None or here.key in _OWN_SIZE):
        gib = "1" if disk.size is None else gibibytes(disk.size)
        return f"{disk.storage}:{gib}", made, {"storage": disk.storage, **size}
    raise Refused(
        f"{where} is empty, and the task does not say what comes there; name storage and size, storage and import_from, volume, "
        "cdrom or cloudinit."
    )


def _resolved(where: str, volume: str, unused: Mapping[str, str]) -> str:
    if not re.fullmatch(r"unused\d+", volume):
        return volume
    if volume not in unused:
        have = ", ".join(f"{key} ({value})" for key, value in sorted(unused.items())) or "none"
        raise Refused(f"{volume} is wanted as {where}, and there is no {volume}; unused volumes are: {have}.")
    return unused[volume]


def _exchange(where: str, here: Slot, disk: Disk) -> Change:
    """Return how a CD drive gets another medium."""
    if not (here.is_cdrom or here.is_cloudinit):
        raise Refused(
            f"{where} holds the disk {here.volume}, and a CD drive is wanted there; take another slot, or remove the disk first "
            f"with absent: [{here.key}]."
        )
    if disk.cdrom is not None:
        return _merged(here, disk, disk.cdrom)
    if here.is_cloudinit:
        storage = (here.volume or "").partition(":")[0]
        if storage != disk.cloudinit:
            raise Refused(
                f"{where} is a cloud-init drive on storage {storage}, and it is wanted on {disk.cloudinit}; remove it first with "
                f"absent: [{here.key}]."
            )
        return _merged(here, disk, here.volume)
    return _merged(here, disk, f"{disk.cloudinit}:cloudinit")


def _check_volume(where: str, here: Slot, disk: Disk, unused: Mapping[str, str]) -> None:
    storage = (here.volume or "").partition(":")[0]
    # unusedN is gone once it is attached, so a name that no longer is can only mean what is there.
    named = unused.get(disk.volume) if disk.volume is not None and disk.volume.startswith("unused") else disk.volume
    if named is not None and named != here.volume:
        raise Refused(
            f"{where} holds the volume {here.volume}, and {named} is wanted there; take another slot, or detach the present one "
            f"first with absent: [{here.key}], which keeps it as an unused disk."
        )
    if disk.storage is not None and disk.storage != storage:
        raise Refused(
            f"{where} is on storage {storage}, and it is wanted on {disk.storage}; this module moves no disks. Move it, or name "
            f"{storage}, or leave storage out."
        )


def _growth(where: str, here: Slot, disk: Disk) -> int | None:
    """Return the bytes to grow to; Refused where that would shrink."""
    if disk.size is None:
        return None
    if here.size is None:
        raise Refused(
            f"{where} has size {format_size(disk.size)} as its wish, and the server does not tell its size now."
        )
    if disk.size > here.size:
        return disk.size
    if here.size - disk.size >= ROUNDING:
        raise Refused(
            f"{where} is {format_size(here.size)}, and {format_size(disk.size)} is wanted; disks are never shrunk. Name its "
            "present size or leave the size out."
        )
    return None


def _merged(here: Slot, disk: Disk, volume: str | None, size: int | None = None) -> Change:
    """Return the change of a drive that is there: another medium, other options, another size."""
    head = here.form.default_key or ""
    have = here.found
    merged = merge_properties(here.form, have, disk.options)
    merged[head] = volume or ""
    if merged[head] != have.get(head):
        merged = {key: value for key, value in merged.items() if key not in ("size", "format")}
    elif here.size is not None:
        # A resize writes the size of what is, not of what is pending.
        merged["size"] = format_size(size or here.size)
    told = set(disk.options) | (set(have) - set(merged) - {"size", "format"})
    before = {**_identity(here, disk, have, here.size), **shown_properties(here.form, have, told)}
    after = {**_identity(here, disk, merged, size or here.size), **shown_properties(here.form, merged, told)}
    if meaning(here.form, _sizeless(merged)) == meaning(here.form, _sizeless(have)) and not _size_is_old(here, size):
        return Change(before, after)
    return Change(before, after, format_properties(here.form, merged))


def _sizeless(found: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in found.items() if key != "size"}


def _size_is_old(here: Slot, size: int | None) -> bool:
    """Tell whether a pending value names a size that the volume has no more, or will not have when it is grown."""
    named = here.found.get("size")
    return here.pending and named is not None and here.size is not None and parse_size(named) != (size or here.size)


def _identity(here: Slot, disk: Disk, found: Mapping[str, str], size: int | None) -> dict[str, Any]:
    """Return what people see of the volume: in the words of the module, only what the task names."""
    volume = found.get(here.form.default_key or "", "")
    storage = volume.partition(":")[0]
    if disk.cdrom is not None:
        return {"cdrom": volume}
    if disk.cloudinit is not None:
        return {"cloudinit": storage} if is_cloudinit(volume) else {"cdrom": volume}
    shown: dict[str, Any] = {}
    if disk.storage is not None:
        shown["storage"] = storage
    if disk.volume is not None:
        shown["volume"] = volume
    if disk.size is not None and size is not None:
        shown["size"] = format_size(disk.size if 0 <= size - disk.size < ROUNDING else size)
    return shown
