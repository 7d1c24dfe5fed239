# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One disk of a guest: on which storage it is, in whose slot, what is in the drive, or that it is gone.

What a disk is like (its size, its options) is configuration; see config.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import ProxmoxError, Refused
from .guests import Guest, GuestRef, reference, wait_for_lock
from .guests import observe as observe_guest
from .options import is_disk
from .plan import Call, Feature, Plan, Reader

_UNUSED = re.compile(r"unused\d+")
EJECTED = "none"


@dataclass(frozen=True)
class Wanted:
    """What is wanted of one slot; at most one of the fields from storage to import_from says what is to be in it.

    :param state: present, detached or absent.
    :param storage: where the volume is to be, or with import_from where it is to be made. :param keep_source: as an unused volume.
    :param target: the guest that is to have it, in the slot :param target_disk:.
    :param volume: a volume, or the unusedN that holds it. :param iso: EJECTED for an empty drive.
    :param bwlimit: KiB/s.
    """

    guest: GuestRef
    disk: str
    state: str = "present"
    storage: str | None = None
    format: str | None = None
    keep_source: bool = False
    target: GuestRef | None = None
    target_disk: str | None = None
    volume: str | None = None
    iso: str | None = None
    import_from: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    bwlimit: int | None = None


@dataclass(frozen=True)
class Slots:
    """The disks of a guest. :param texts: by slot, pending changes applied. :param leaving: slots that are emptied at the next stop.

    :param digest: of the configuration that was read.
    """

    guest: Guest
    texts: Mapping[str, str]
    leaving: frozenset[str]
    digest: str

    def volume(self, slot: str) -> str | None:
        """Return the volume in a slot, None where there is none."""
        return _volume(self.texts[slot]) if slot in self.texts else None

    def unused(self) -> dict[str, str]:
        """Return the volumes that are in no slot that the guest uses."""
        return {slot: _volume(text) for slot, text in sorted(self.texts.items()) if _UNUSED.fullmatch(slot)}


@dataclass(frozen=True)
class Observed:
    """:param other: the guest that is to have the disk."""

    here: Slots
    other: Slots | None = None


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    disk, state, iso = options["disk"], options["state"], options.get("iso")
    asked = [name for name in ("target_vmid", "volume", "iso", "import_from") if options.get(name) is not None]
    if state != "present" and (asked or options.get("storage") is not None):
        raise Refused(
            f"state={state} leaves the slot {disk} empty; it goes with none of storage, {', '.join(_SOURCES)}."
        )
    if len(asked) > 1 or (asked and asked != ["import_from"] and options.get("storage") is not None):
        raise Refused(f"{', '.join([*asked, *(['storage'] if options.get('storage') else [])])} exclude each other.")
    if options.get("import_from") is not None and options.get("storage") is None:
        raise Refused("import_from needs the storage that the new disk is to be on.")
    if options.get("options") and not {"volume", "import_from"} & set(asked):
        raise Refused(
            "options are for a disk that is attached or imported; proxmox_vm_config changes those of one that is there."
        )
    target = options.get("target_vmid")
    return Wanted(
        reference(options),
        disk,
        state,
        options.get("storage"),
        options.get("format"),
        options["keep_source"],
        GuestRef(vmid=target) if target is not None else None,
        options.get("target_disk"),
        options.get("volume"),
        EJECTED if iso in ("", EJECTED) else iso,
        options.get("import_from"),
        dict(options.get("options") or {}),
        options.get("bwlimit"),
    )


_SOURCES = ("target_vmid", "volume", "iso", "import_from")


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the disks: two requests where it is known where to ask, and as many for another guest that is to have one."""
    here = _slots(reader, want.guest, previous.here if previous is not None else None)
    other = None
    if want.target is not None:
        other = _slots(reader, want.target, previous.other if previous is not None else None)
    return Observed(here, other)


def _slots(reader: Reader, ref: GuestRef, previous: Slots | None) -> Slots:
    guest = observe_guest(reader, ref, previous.guest if previous is not None else None)
    texts: dict[str, str] = {}
    leaving: set[str] = set()
    digest = ""
    for row in reader.get(f"{guest.path}/pending"):
        key = str(row["key"])
        if key == "digest":
            digest = str(row.get("value") or "")
        elif is_disk(guest.kind, key) or _UNUSED.fullmatch(key):
            if row.get("delete"):
                leaving.add(key)
            elif row.get("pending", row.get("value")) is not None:
                texts[key] = str(row.get("pending", row.get("value")))
    return Slots(guest, texts, frozenset(leaving), digest)


def _volume(text: str) -> str:
    """Return the volume of a drive or mount point; its key may be left out and is in the first place (PVE/QemuServer/Drive.pm)."""
    parts = text.split(",")
    return next((part.partition("=")[2] for part in parts if re.match(r"(file|volume)=", part)), parts[0])


def _storage(volume: str) -> str | None:
    head, colon, _rest = volume.partition(":")
    return head if colon and not head.startswith("/") else None


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return what brings the slot there; raises Refused for what the slot cannot have."""
    here = observed.here
    guest = here.guest
    if not is_disk(guest.kind, want.disk) and not _UNUSED.fullmatch(want.disk):
        raise Refused(f"{guest} has no slot '{want.disk}' for disks.")
    if want.state != "present":
        call, after = _emptied(want, here)
    elif want.iso is not None:
        call, after = _loaded(want, here)
    elif want.target is not None:
        return _handed_over(want, here, observed.other)
    elif want.volume is not None:
        call, after = _attached(want, here)
    elif want.import_from is not None:
        call, after = _imported(want, here)
    else:
        call, after = _moved(want, here)
    before = {"disk": _shown(want, here)}
    left = want.disk in here.leaving and want.state != "present"
    warnings = [f"{want.disk} of {guest} is taken out when it is stopped the next time; it runs."] if left else []
    waiting = wait_for_lock(guest) if call is not None and guest.lock is not None else None
    return Plan(before, {"disk": after}, () if call is None else (call,), waiting, warnings)


def _shown(want: Wanted, slots: Slots) -> object:
    """Return what a plan compares of the slot: the storage of a disk that moves, otherwise its volume."""
    volume = slots.volume(want.disk)
    if volume is None:
        return None
    if want.state == "present" and (want.storage is not None and want.import_from is None):
        return {"storage": _storage(volume)}
    return {"volume": volume} if want.import_from is None else {"storage": _storage(volume)}


def _missing(want: Wanted, slots: Slots) -> Refused:
    there = ", ".join(sorted(slots.texts)) or "none"
    return Refused(f"{slots.guest} has no disk in {want.disk} (there are {there}).")


def _write(slots: Slots, params: Mapping[str, object], told: str) -> Call:
    guest = slots.guest
    # The write of a VM is a task of its own, so that no proxy cuts it off; a container's is not.
    method, task = ("POST", ("qmconfig", str(guest.vmid))) if guest.kind == "qemu" else ("PUT", None)
    return Call(method, f"{guest.path}/config", {**params, "digest": slots.digest}, told, task)


def _emptied(want: Wanted, slots: Slots) -> tuple[Call | None, object]:
    unused = _UNUSED.fullmatch(want.disk) is not None
    if want.state == "detached" and unused:
        raise Refused(f"{want.disk} is attached to nothing; state=absent removes its volume.")
    volume = slots.volume(want.disk)
    if volume is None:
        return None, None
    params: dict[str, object] = {"delete": want.disk}
    if want.state == "detached":
        return _write(slots, params, f"detach {want.disk} of {slots.guest}, and keep {volume}"), None
    if not unused:
        params["force"] = True
    return _write(slots, params, f"remove {want.disk} of {slots.guest} with its volume {volume}"), None


def _loaded(want: Wanted, slots: Slots) -> tuple[Call | None, object]:
    if slots.guest.kind != "qemu":
        raise Refused(f"{slots.guest} is a container, and has no drives for images.")
    text = slots.texts.get(want.disk)
    if text is not None and "media=cdrom" not in text.split(","):
        raise Refused(
            f"{want.disk} of {slots.guest} is a disk ({slots.volume(want.disk)}), not a CD drive; nothing was done to it."
        )
    after = {"volume": want.iso}
    if slots.volume(want.disk) == want.iso:
        return None, after
    deed = f"eject {want.disk} of" if want.iso == EJECTED else f"insert {want.iso} into {want.disk} of"
    return _write(slots, {want.disk: f"{want.iso},media=cdrom"}, f"{deed} {slots.guest}"), after


def _attached(want: Wanted, slots: Slots) -> tuple[Call | None, object]:
    wish = str(want.volume)
    held = slots.volume(want.disk)
    resolved = slots.volume(wish) if _UNUSED.fullmatch(wish) else wish
    if held is not None and (resolved is None or held == resolved):
        return None, {"volume": held}
    if held is not None:
        raise Refused(
            f"{want.disk} of {slots.guest} holds {held} already; detach that, or choose another slot for {wish}."
        )
    if resolved is None:
        unused = ", ".join(f"{slot} ({volume})" for slot, volume in slots.unused().items()) or "none"
        raise Refused(f"{slots.guest} has no {wish}; its unused volumes: {unused}.")
    text = ",".join([resolved, *_properties(want)])
    return _write(slots, {want.disk: text}, f"attach {resolved} to {slots.guest} as {want.disk}"), {"volume": resolved}


def _imported(want: Wanted, slots: Slots) -> tuple[Call | None, object]:
    if slots.guest.kind != "qemu":
        raise Refused(f"{slots.guest} is a container, and images are imported into VMs only.")
    after = {"storage": want.storage}
    held = slots.volume(want.disk)
    if held is not None:
        return None, {"storage": _storage(held)}
    form = [f"format={want.format}"] if want.format is not None else []
    text = ",".join([f"{want.storage}:0", f"import-from={want.import_from}", *form, *_properties(want)])
    return _write(slots, {want.disk: text}, f"import {want.import_from} to {slots.guest} as {want.disk}"), after


def _properties(want: Wanted) -> list[str]:
    return [f"{key}={int(value) if isinstance(value, bool) else value}" for key, value in want.options.items()]


def _moved(want: Wanted, slots: Slots) -> tuple[Call | None, object]:
    guest, volume = slots.guest, slots.volume(want.disk)
    if volume is None:
        raise _missing(want, slots)
    if want.storage is None:
        return None, {"volume": volume}
    here = _storage(volume)
    after = {"storage": want.storage}
    if here == want.storage and (want.format is None or _format(volume) in (None, want.format)):
        return None, after
    if here is None or "media=cdrom" in slots.texts[want.disk].split(","):
        raise Refused(f"{want.disk} of {guest} holds {volume}, which is no disk on a storage and cannot be moved.")
    params: dict[str, object] = {"disk" if guest.kind == "qemu" else "volume": want.disk, "storage": want.storage}
    if want.format is not None:
        if guest.kind != "qemu":
            raise Refused("format is for VMs; the storage decides it for containers.")
        params["format"] = want.format
    if not want.keep_source:
        params["delete"] = True
    if want.bwlimit is not None:
        params["bwlimit"] = want.bwlimit
    if guest.kind == "lxc" and guest.status == "running":
        raise Refused(f"{guest} runs, and the server moves volumes of containers that are stopped only.")
    call = Call(
        "POST",
        f"{guest.path}/{'move_disk' if guest.kind == 'qemu' else 'move_volume'}",
        {**params, "digest": slots.digest},
        f"move {want.disk} of {guest} from storage {here} to {want.storage}",
        ("qmmove" if guest.kind == "qemu" else "move_volume", str(guest.vmid)),
    )
    return call, after


def _format(volume: str) -> str | None:
    """Return the format of a volume that is a file, None of others, which have only one."""
    found = re.search(r"/[^/]+\.(raw|qcow2|vmdk|subvol)$", volume)
    return found[1] if found else None


def _handed_over(want: Wanted, here: Slots, other: Slots | None) -> Plan:
    if other is None:
        raise ProxmoxError("The guest that is to have the disk was not looked at.")
    slot = want.target_disk or want.disk
    volume, there = here.volume(want.disk), other.volume(slot)
    before = {here.guest.vmid: volume, other.guest.vmid: there}
    if volume is None:
        if there is None:
            raise _missing(want, here)
        # It was handed over; under its new owner a volume has another name.
        return Plan(before, before)
    if here.guest.kind != other.guest.kind:
        raise Refused(f"{here.guest} and {other.guest} are of different kinds, and cannot have each other's disks.")
    if here.guest.node != other.guest.node:
        raise Refused(
            f"{here.guest} is on node {here.guest.node} and {other.guest} on {other.guest.node}; a disk changes hands on one node."
        )
    if there is not None:
        raise Refused(f"{slot} of {other.guest} holds {there} already; choose another slot in target_disk.")
    if here.guest.status == "running" and not _UNUSED.fullmatch(want.disk):
        raise Refused(f"{here.guest} runs; detach {want.disk} or stop it first.")
    kind = here.guest.kind
    names = ("disk", "target-disk", "move_disk") if kind == "qemu" else ("volume", "target-volume", "move_volume")
    call = Call(
        "POST",
        f"{here.guest.path}/{names[2]}",
        {
            names[0]: want.disk,
            "target-vmid": other.guest.vmid,
            names[1]: slot,
            "digest": here.digest,
            "target-digest": other.digest,
        },
        f"hand {want.disk} of {here.guest} over to {other.guest} as {slot}",
        # Its id is not that of a guest (VMID-SLOT>VMID-SLOT), by which alone tasks are found.
    )
    locked = next((slots.guest for slots in (here, other) if slots.guest.lock is not None), None)
    waiting = wait_for_lock(locked) if locked is not None else None
    return Plan(before, {here.guest.vmid: None, other.guest.vmid: "the same disk"}, (call,), waiting)


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest, the disk as it is in the end, and the volumes that are in no slot."""
    slots, slot = observed.here, want.disk
    if observed.other is not None and want.disk not in slots.texts:
        slots, slot = observed.other, want.target_disk or want.disk
    volume = slots.volume(slot)
    shown = {"slot": slot, "volume": volume, "storage": _storage(volume), "text": slots.texts[slot]} if volume else None
    return {
        "guest": observed.here.guest.shown(),
        "owner": slots.guest.vmid,
        "disk": shown,
        "unused": observed.here.unused(),
    }


FEATURE = Feature(wanted, observe, decide, result)
