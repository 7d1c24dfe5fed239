# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One disk of a guest: on which storage it is, in whose slot, what is in the drive, or that it is gone.

What a disk is like (its size, its options) is configuration; see config.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .drives import WORDS, is_cloudinit
from .errors import ProxmoxError, Refused
from .guests import RESTING_LOCKS, Guest, GuestRef, reference, wait_for_lock
from .guests import observe as observe_guest
from .options import check_spelling, is_disk
from .plan import Call, Feature, Plan, Reader

EJECTED = "none"

_UNUSED = re.compile(r"unused\d+")
_ISO = re.compile(r"[A-Za-z][A-Za-z0-9._-]*:iso/.+|cdrom|none")

# Values of `delete` among pending changes: detached at the next stop, or removed with its volume then
# (PVE/GuestHelpers.pm, config_with_pending_array).
_DETACHED, _REMOVED = 1, 2

# What asks for a deed, and the options that may go with it.
_WITH: dict[str, frozenset[str]] = {
    "iso": frozenset(),
    "target_vmid": frozenset({"target_disk"}),
    "import_from": frozenset({"storage", "format", "options"}),
    "storage": frozenset({"format", "keep_source", "bwlimit"}),
    "volume": frozenset({"options"}),
}


@dataclass(frozen=True)
class Wanted:
    """What is wanted of one slot.

    :param state: present, detached or absent.
    :param storage: where the volume is to be, or with import_from where it is to be made.
    :param keep_source: whether a volume that was copied stays, in no slot.
    :param target: the guest that is to have it, in the slot `target_disk`.
    :param volume: a volume, or the unusedN that holds it; with other states than present the only one that may go.
    :param iso: EJECTED for an empty drive. :param bwlimit: KiB/s.
    """

    guest: GuestRef
    disk: str
    state: str = "present"
    storage: str | None = None
    format: str | None = None
    keep_source: bool = False
    target: int | None = None
    target_disk: str | None = None
    volume: str | None = None
    iso: str | None = None
    import_from: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    bwlimit: int | None = None

    @property
    def moves(self) -> bool:
        return self.state == "present" and self.storage is not None and self.import_from is None


@dataclass(frozen=True)
class Slot:
    """A slot for a disk. :param now: what the guest has in it. :param text: what it is to have when changes that wait are applied.

    :param leaving: _DETACHED or _REMOVED where it is to be emptied.
    :param begun: what a write that was cut off would have put there at once.
    """

    now: str | None
    text: str | None
    leaving: int = 0
    begun: str | None = None

    @property
    def waits(self) -> bool:
        return self.now != self.text


EMPTY = Slot(None, None)


@dataclass(frozen=True)
class Slots:
    """The disks of a guest. :param digest: of the configuration that was read."""

    guest: Guest
    found: Mapping[str, Slot]
    digest: str = ""

    def slot(self, name: str) -> Slot:
        return self.found.get(name, EMPTY)

    def volume(self, name: str) -> str | None:
        """Return the volume in a slot, changes that wait applied; None where there is none."""
        return _volume(self.slot(name).text)

    def unused(self) -> dict[str, str]:
        """Return the volumes that the guest owns and does not use, by the name that the server has given to each."""
        found = {name: _volume(slot.text) for name, slot in sorted(self.found.items()) if _UNUSED.fullmatch(name)}
        return {name: volume for name, volume in found.items() if volume is not None}

    def holding(self, volume: str | None) -> str | None:
        """Return the unusedN that holds the volume."""
        return next((name for name, held in self.unused().items() if held == volume), None)

    @property
    def runs(self) -> bool:
        return self.guest.status == "running"


@dataclass(frozen=True)
class Observed:
    """:param other: the guest that is to have the disk.

    :param snapshots: those that hold the volume that is to be removed.
    :param left: the volume from which this run has moved the disk, where it is still there.
    """

    here: Slots
    other: Slots | None = None
    snapshots: tuple[str, ...] = ()
    left: str | None = None


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    disk, state, iso, format_ = options["disk"], options["state"], options.get("iso"), options.get("format")
    given = {name for names in ({*_WITH}, *_WITH.values()) for name in names if _is_given(options.get(name))}
    _check_given(disk, state, given)
    check_spelling(disk, options.get("options"), WORDS)
    if iso is not None and not _ISO.fullmatch(iso):
        raise Refused(f"'{iso}' is no CD image; name it STORAGE:iso/FILE, or 'none' for an empty drive.")
    return Wanted(
        reference(options),
        disk,
        state,
        options.get("storage"),
        format_,
        options["keep_source"],
        options.get("target_vmid"),
        options.get("target_disk"),
        options.get("volume"),
        iso,
        options.get("import_from"),
        dict(options.get("options") or {}),
        options.get("bwlimit"),
    )


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value != {}


def _check_given(disk: str, state: str, given: set[str]) -> None:
    """Raise Refused for options that contradict each other, or that would be ignored."""
    if state != "present":
        deed, allowed = f"state={state}", {"volume"}
    else:
        named = next((name for name in _WITH if name in given), None)
        if named is None:
            raise Refused(f"Nothing is asked of {disk}; name one of {', '.join(sorted(_WITH))}, or another state.")
        deed, allowed = named, {named, *_WITH[named]}
    if given - allowed:
        raise Refused(f"{deed} does not go with {', '.join(sorted(given - allowed))}.")
    if deed == "import_from" and "storage" not in given:
        raise Refused("import_from needs the storage that the new disk is to be on.")


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the disks: two requests where it is known where to ask, and as many for another guest that is to have one.

    The snapshots are read before a volume is removed, and after a move the storage that it came from.
    """
    here = _slots(reader, want.guest, want.state, previous.here if previous is not None else None)
    other = None
    if want.target is not None:
        ref = GuestRef(want.target, node=here.guest.node, kind=here.guest.kind)
        other = _slots(reader, ref, "present", previous.other if previous is not None else None)
    volume = _to_remove(want, here)
    snapshots = tuple(_snapshots_with(reader, here.guest, volume)) if volume is not None else ()
    return Observed(here, other, snapshots, _left(want, reader, here, previous))


def _slots(reader: Reader, ref: GuestRef, state: str, previous: Slots | None) -> Slots:
    guest = observe_guest(reader, ref, previous.guest if previous is not None else None)
    found: dict[str, Slot] = {}
    digest = ""
    rows = reader.get(f"{guest.path}/pending")
    hotplug = next((str(row.get("value")) for row in rows if row["key"] == "hotplug"), "1")
    live = hotplug == "1" or "disk" in hotplug
    for row in rows:
        key = str(row["key"])
        if key == "digest":
            digest = str(row.get("value") or "")
        elif is_disk(guest.kind, key) or _UNUSED.fullmatch(key):
            found[key] = _slot(guest, key, row, state, live)
    return Slots(guest, found, digest)


def _slot(guest: Guest, name: str, row: Mapping[str, Any], state: str, hotplug: bool = True) -> Slot:
    """Return a slot. What a running guest cannot let go is as good as gone, where it is to leave as wanted; what it could let go or
    take at once and has not is the rest of a write that was cut off, and is to be done still.
    """
    now = str(row["value"]) if row.get("value") is not None else None
    leaving = int(row.get("delete") or 0)
    live = guest.kind == "qemu" and guest.status == "running" and hotplug and re.match("scsi|virtio", name) is not None
    if not leaving:
        text = str(row["pending"]) if row.get("pending") is not None else now
        return Slot(now, now, begun=text) if live and _volume(text) != _volume(now) else Slot(now, text)
    as_wanted = state == "present" or guest.kind == "lxc" or _is_cd(now) or (leaving == _REMOVED) == (state == "absent")
    # Of a guest that is stopped, and of what is in no slot, it would be gone already if the server could do it.
    goes = as_wanted and guest.status == "running" and not live and not _UNUSED.fullmatch(name)
    return Slot(now, None if goes else now, leaving)


def _to_remove(want: Wanted, slots: Slots) -> str | None:
    """Return the volume that is to be removed and is still there."""
    if want.state != "absent":
        return None
    volume = slots.volume(want.disk)
    if volume is None and want.volume is not None and slots.holding(want.volume) is not None:
        return want.volume
    return volume if _storage(volume) is not None and not _is_cd(slots.slot(want.disk).text) else None


def _snapshots_with(reader: Reader, guest: Guest, volume: str) -> Iterator[str]:
    """Yield the snapshots that hold the volume; the server does not remove it as long as there are any."""
    for row in reader.get(f"{guest.path}/snapshot"):
        if row["name"] != "current":
            config = reader.get(f"{guest.path}/snapshot/{row['name']}/config")
            if any(is_disk(guest.kind, key) and _volume(str(text)) == volume for key, text in config.items()):
                yield row["name"]


def _left(want: Wanted, reader: Reader, here: Slots, previous: Observed | None) -> str | None:
    """Return the volume that was moved and that the server could not free: it only says so in the log of its task."""
    if previous is None or not want.moves or want.keep_source:
        return None
    old = previous.here.volume(want.disk)
    if old == here.volume(want.disk):
        return previous.left
    storage = _storage(old)
    if old is None or storage is None or here.guest.node != previous.here.guest.node:
        return None
    try:
        rows = reader.get(f"/nodes/{here.guest.node}/storage/{storage}/content", vmid=here.guest.vmid)
    except ProxmoxError as error:
        if error.status in (403, 500):
            return None
        raise
    return old if any(row["volid"] == old for row in rows) else None


def _volume(text: str | None) -> str | None:
    """Return the volume of a drive or mount point; its key may be left out and is in the first place (PVE/QemuServer/Drive.pm)."""
    if text is None:
        return None
    parts = text.split(",")
    return next((part.partition("=")[2] for part in parts if re.match(r"(file|volume)=", part)), parts[0])


def _storage(volume: str | None) -> str | None:
    head, colon, _rest = (volume or "").partition(":")
    return head if colon and not head.startswith("/") else None


def _format(volume: str | None) -> str | None:
    """Return the format of a volume that is a file, None of others, which have only one."""
    found = re.search(r"\.(raw|qcow2|vmdk|subvol)$", volume or "")
    return found[1] if found else None


def _is_cd(text: str | None) -> bool:
    """Tell whether it is a CD drive; that of cloud-init is one."""
    return text is not None and "media=cdrom" in text.split(",")


def _is_cloudinit(text: str | None) -> bool:
    return is_cloudinit(_volume(text) or "")


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return what brings the slot there; raises Refused for what the slot cannot have."""
    here, other = observed.here, observed.other
    guest = here.guest
    if not is_disk(guest.kind, want.disk) and not _UNUSED.fullmatch(want.disk):
        raise Refused(f"{guest} has no slot '{want.disk}' for disks.")
    if want.state == "detached":
        plan = _detached(want, here)
    elif want.state == "absent":
        plan = _removed(want, here, observed.snapshots)
    elif want.iso is not None:
        plan = _loaded(want, here)
    elif want.target is not None:
        plan = _handed_over(want, here, other)
    elif want.import_from is not None:
        plan = _imported(want, here)
    elif want.storage is not None:
        plan = _moved(want, here)
    else:
        plan = _attached(want, here)
    if not plan.calls:
        return replace(plan, warnings=tuple(_warnings(want, observed)))
    locked = next((slots.guest for slots in (here, other) if slots is not None and slots.guest.lock is not None), None)
    if locked is None:
        return plan
    if locked.lock in RESTING_LOCKS:
        raise Refused(f"{locked} is hibernated, and its disks cannot be changed; start it first.")
    return replace(plan, waiting=wait_for_lock(locked))


def _warnings(want: Wanted, observed: Observed) -> Iterator[str]:
    for slots, name in ((observed.here, want.disk), (observed.other, want.target_disk or want.disk)):
        if slots is None or not slots.slot(name).waits:
            continue
        now, text = slots.slot(name).now, slots.slot(name).text
        yield (
            f"{name} of {slots.guest} changes only when it is stopped the next time; until then it holds "
            f"{_volume(now) or 'nothing'}, after that {_volume(text) or 'nothing'}."
        )
    if observed.left is not None:
        unused = observed.here.holding(observed.left)
        where = f"as {unused} of {observed.here.guest}" if unused else "on its storage, named in no configuration"
        yield f"The server could not remove {observed.left} after {want.disk} was moved from it; it is left {where}."


def _write(slots: Slots, params: Mapping[str, object], told: str) -> Call:
    guest = slots.guest
    # The write of a VM is a task of its own, so that no proxy cuts it off; a container's is not.
    method, task = ("POST", ("qmconfig", str(guest.vmid))) if guest.kind == "qemu" else ("PUT", None)
    return Call(method, f"{guest.path}/config", {**params, "digest": slots.digest}, told, task)


def _missing(want: Wanted, slots: Slots) -> Refused:
    there = ", ".join(sorted(name for name, slot in slots.found.items() if slot.text is not None)) or "none"
    return Refused(f"{slots.guest} has no disk in {want.disk} (there are: {there}).")


def _check_going(want: Wanted, slots: Slots) -> None:
    """Raise Refused for what may not leave its slot."""
    volume = slots.volume(want.disk)
    if want.disk == "rootfs":
        raise Refused(f"{slots.guest} cannot be without its rootfs.")
    if want.volume is not None and volume not in (None, want.volume):
        raise Refused(f"{want.disk} of {slots.guest} holds {volume}, not {want.volume}; nothing was done to it.")


def _detached(want: Wanted, slots: Slots) -> Plan:
    if _UNUSED.fullmatch(want.disk):
        raise Refused(f"{want.disk} is attached to nothing; state=absent removes its volume.")
    _check_going(want, slots)
    volume = slots.volume(want.disk)
    before, after = {want.disk: volume}, {want.disk: None}
    if volume is None:
        return Plan(before, after)
    call = _write(slots, {"delete": want.disk}, f"detach {want.disk} ({volume}) of {slots.guest}")
    return Plan(before, after, (call,))


def _removed(want: Wanted, slots: Slots, snapshots: Sequence[str]) -> Plan:
    _check_going(want, slots)
    guest, disk, slot = slots.guest, want.disk, slots.slot(want.disk)
    volume, unused = slots.volume(disk), slots.holding(want.volume) if want.volume is not None else None
    if volume is not None and slot.waits:
        raise Refused(
            f"{disk} of {guest} changes when it is stopped the next time: it holds {_volume(slot.now) or 'nothing'} and is to hold "
            f"{volume}. Stop it first, or detach {disk}."
        )
    if snapshots:
        raise Refused(
            f"{want.volume or volume} of {guest} is in the snapshots {', '.join(snapshots)}, and the server does not remove it as "
            "long as they are there; remove them first."
        )
    before: dict[str, object] = {disk: volume}
    after: dict[str, object] = {disk: None}
    if want.volume is not None:
        # A container that runs keeps the volume until it is stopped.
        held = want.volume in (volume, _volume(slot.now) if guest.kind == "lxc" else None) or unused is not None
        before["volume"] = want.volume if held else None
        after["volume"] = None
    if volume is None:
        told = f"remove {want.volume}, which was {disk} of {guest}"
        if unused is None:
            return Plan(before, {**after, **({"volume": before["volume"]} if want.volume is not None else {})})
        return Plan(before, after, (_write(slots, {"delete": unused}, told),))
    if _UNUSED.fullmatch(disk):
        return Plan(before, after, (_write(slots, {"delete": disk}, f"remove {disk} ({volume}) of {guest}"),))
    if _is_cd(slot.text) and not _is_cloudinit(slot.text):
        return Plan(before, after, (_write(slots, {"delete": disk}, f"take the CD drive {disk} out of {guest}"),))
    if guest.kind == "qemu":
        told = f"remove {disk} of {guest} with its volume {volume}"
        return Plan(before, after, (_write(slots, {"delete": disk, "force": True}, told),))
    return _removed_in_two(want, slots, before, after)


def _removed_in_two(want: Wanted, slots: Slots, before: Mapping[str, object], after: Mapping[str, object]) -> Plan:
    """A container's mount point is taken out, and then its volume is removed: the server knows no `force` for containers."""
    guest, disk, volume = slots.guest, want.disk, str(slots.volume(want.disk))
    first = _write(slots, {"delete": disk}, f"detach {disk} ({volume}) of {guest}")
    if _storage(volume) is None:
        return Plan(before, after, (first,))
    if want.volume is None:
        raise Refused(
            f"{disk} of {guest} holds {volume}. A container's volume is removed in two steps, and a run that was cut off between "
            f"them finds it again by its name only: say volume={volume} too."
        )
    if slots.runs:
        return Plan(before, {**after, "volume": volume}, (first,))
    free = (f"unused{number}" for number in range(256) if slots.slot(f"unused{number}").now is None)
    second = _write(
        slots, {"delete": slots.holding(volume) or next(free)}, f"remove {volume}, which was {disk} of {guest}"
    )
    return Plan(before, after, (first, second))


def _loaded(want: Wanted, slots: Slots) -> Plan:
    guest, disk, slot = slots.guest, want.disk, slots.slot(want.disk)
    if guest.kind != "qemu" or _UNUSED.fullmatch(disk):
        raise Refused(f"{disk} of {guest} is no drive for CDs.")
    for text in (slot.now, slot.text):
        if text is not None and (not _is_cd(text) or _is_cloudinit(text)):
            what = "the data of cloud-init" if _is_cd(text) else "a disk"
            raise Refused(f"{disk} of {guest} holds {what} ({_volume(text)}), not a CD; nothing was done to it.")
    held = slots.volume(disk)
    if held == want.iso or (held is None and want.iso == EJECTED):
        return Plan({disk: held}, {disk: held})
    # Whatever else is said of the drive stays.
    kept = [part for part in (slot.text or "").split(",")[1:] if not re.match(r"(file|media|size)=", part)]
    told = (
        f"eject {held} from {disk} of {guest}" if want.iso == EJECTED else f"insert {want.iso} into {disk} of {guest}"
    )
    call = _write(slots, {disk: ",".join([str(want.iso), "media=cdrom", *kept])}, told)
    return Plan({disk: held}, {disk: want.iso}, (call,))


def _attached(want: Wanted, slots: Slots) -> Plan:
    guest, disk, wish = slots.guest, want.disk, str(want.volume)
    held, slot = slots.volume(disk), slots.slot(disk)
    volume = (slots.volume(wish) or _volume(slot.begun)) if _UNUSED.fullmatch(wish) else wish
    if _UNUSED.fullmatch(disk):
        raise Refused(f"{disk} is no slot that a volume can be attached to.")
    if held is not None and volume in (None, held):
        return Plan({disk: held}, {disk: held})
    if held is not None:
        raise Refused(f"{disk} of {guest} holds {held} already; detach that first, or choose another slot for {wish}.")
    if volume is None:
        unused = ", ".join(f"{name} ({its})" for name, its in slots.unused().items()) or "none"
        raise Refused(f"{guest} has no {wish}; its unused volumes: {unused}.")
    for name, other in slots.found.items():
        if name != disk and not _UNUSED.fullmatch(name) and volume in (_volume(other.now), _volume(other.text)):
            raise Refused(f"{volume} is {name} of {guest}; detach it there before it becomes {disk}.")
    told = f"attach {volume} to {guest} as {disk}"
    if slot.leaving and held is None and _volume(slot.now) == volume and not want.options:
        call = _write(slots, {"revert": disk}, f"keep {volume} in {disk} of {guest}, from which it was to be detached")
    else:
        call = _write(slots, {disk: ",".join([volume, *_properties(want)])}, told)
    return Plan({disk: None}, {disk: volume}, (call,))


def _properties(want: Wanted) -> list[str]:
    return [f"{key}={int(value) if isinstance(value, bool) else value}" for key, value in want.options.items()]


def _imported(want: Wanted, slots: Slots) -> Plan:
    guest, disk, text = slots.guest, want.disk, slots.slot(want.disk).text
    if guest.kind != "qemu":
        raise Refused(f"{guest} is a container, and images are imported into VMs only.")
    if _UNUSED.fullmatch(disk) or _is_cd(text):
        raise Refused(f"{disk} of {guest} is no slot for an imported disk.")
    if text is not None:
        there = {disk: {"storage": _storage(_volume(text))}}
        return Plan(there, there)
    form = [f"format={want.format}"] if want.format is not None else []
    value = ",".join([f"{want.storage}:0", f"import-from={want.import_from}", *form, *_properties(want)])
    call = _write(slots, {disk: value}, f"import {want.import_from} into {disk} of {guest}, on {want.storage}")
    return Plan({disk: None}, {disk: {"storage": want.storage}}, (call,))


def _moved(want: Wanted, slots: Slots) -> Plan:
    guest, disk, slot = slots.guest, want.disk, slots.slot(want.disk)
    volume = slots.volume(disk)
    if volume is None:
        raise _missing(want, slots)
    storage = _storage(volume)
    settled = storage == want.storage and (want.format is None or _format(volume) in (None, want.format))
    before, after = {"storage": storage}, {"storage": want.storage}
    if want.format is not None:
        before["format"], after["format"] = want.format if settled else _format(volume), want.format
    if settled:
        return Plan({disk: before}, {disk: after})
    _check_move(want, slots)
    params: dict[str, object] = {"storage": want.storage, "digest": slots.digest}
    if want.format is not None:
        params["format"] = want.format
    if not want.keep_source:
        params["delete"] = True
    if want.bwlimit is not None:
        params["bwlimit"] = want.bwlimit
    told = f"move {disk} of {guest} from storage {storage} to {want.storage}"
    if slot.text is not None and want.storage == storage:
        told = f"convert {disk} of {guest} on storage {storage} to {want.format}"
    ours = {"qemu": ("disk", "move_disk", "qmmove"), "lxc": ("volume", "move_volume", "move_volume")}
    name, path, task = ours[guest.kind]
    call = Call("POST", f"{guest.path}/{path}", {name: disk, **params}, told, (task, str(guest.vmid)))
    return Plan({disk: before}, {disk: after}, (call,))


def _check_move(want: Wanted, slots: Slots) -> None:
    """Raise Refused for a disk that the server does not move, or that it would lose by it."""
    guest, disk, slot = slots.guest, want.disk, slots.slot(want.disk)
    volume = slots.volume(disk)
    if slot.waits:
        raise Refused(
            f"{disk} of {guest} has changes that wait until it is stopped, and the server would go back to the volume from before "
            "the move then. Stop it and start it first."
        )
    if _storage(volume) is None or (_is_cd(slot.text) and not _is_cloudinit(slot.text)):
        raise Refused(f"{disk} of {guest} holds {volume}, which is no disk on a storage and cannot be moved.")
    if guest.kind == "lxc":
        if slots.runs:
            raise Refused(f"{guest} runs, and the server moves volumes only of containers that are stopped.")
        if _UNUSED.fullmatch(disk):
            raise Refused(f"{disk} of {guest} is in no slot, and the server moves only volumes of containers that are.")
        if want.format is not None:
            raise Refused("format is for VMs; for containers the storage decides it.")
    elif disk == "tpmstate0" and slots.runs:
        raise Refused(f"{guest} runs, and the server moves the state of a TPM only while it is stopped.")


def _handed_over(want: Wanted, here: Slots, other: Slots | None) -> Plan:
    if other is None:
        raise ProxmoxError("The guest that is to have the disk was not looked at.")
    place = want.target_disk or want.disk
    if other.guest.vmid == here.guest.vmid:
        raise Refused(f"{want.disk} belongs to {here.guest} already; target_vmid is for other guests.")
    if not is_disk(other.guest.kind, place) and not _UNUSED.fullmatch(place):
        raise Refused(f"{other.guest} has no slot '{place}' for disks.")
    volume, there = here.volume(want.disk), other.volume(place)
    storage = {"storage": _storage(volume or there)}
    ours, theirs = f"{want.disk} of {here.guest}", f"{place} of {other.guest}"
    before = {ours: storage if volume else None, theirs: storage if there else None}
    if volume is None:
        if there is None:
            raise _missing(want, here)
        # It was handed over; under its new owner a volume has another name.
        return Plan(before, before)
    if there is not None:
        raise Refused(f"{theirs} holds {there} already; choose another slot in target_disk.")
    _check_handing_over(want, place, here, other)
    names = (
        ("disk", "target-disk", "move_disk")
        if here.guest.kind == "qemu"
        else ("volume", "target-volume", "move_volume")
    )
    params = {
        names[0]: want.disk,
        names[1]: place,
        "target-vmid": other.guest.vmid,
        "digest": here.digest,
        "target-digest": other.digest,
    }
    # Its task has both slots in its id, and tasks are found by the id of a guest only: one whose answer was lost is seen by what it
    # did, and the digests see to it that it is done once.
    call = Call("POST", f"{here.guest.path}/{names[2]}", params, f"hand {ours} ({volume}) over as {theirs}")
    return Plan(before, {ours: None, theirs: storage}, (call,))


def _check_handing_over(want: Wanted, place: str, here: Slots, other: Slots) -> None:
    """Raise Refused for a disk that the server does not hand over."""
    slot = here.slot(want.disk)
    loose = _UNUSED.fullmatch(want.disk) is not None
    if here.guest.kind != other.guest.kind:
        raise Refused(f"{here.guest} and {other.guest} are of different kinds, and cannot have each other's disks.")
    if here.guest.node != other.guest.node:
        raise Refused(
            f"{here.guest} is on node {here.guest.node} and {other.guest} on {other.guest.node}; a disk is handed over on one node."
        )
    if "rootfs" in (want.disk, place):
        raise Refused("The rootfs of a container cannot be handed over, nor can anything become one.")
    if slot.waits or other.slot(place).now is not None:
        raise Refused(f"{want.disk} of {here.guest} or {place} of {other.guest} has changes that wait for a stop.")
    if _storage(_volume(slot.text)) is None or _is_cd(slot.text):
        raise Refused(f"{want.disk} of {here.guest} holds {_volume(slot.text)}, which cannot be handed over.")
    if here.guest.kind == "lxc" and loose and not _UNUSED.fullmatch(place):
        raise Refused(f"{want.disk} of {here.guest} is in no slot; say an unusedN in target_disk, and attach it there.")
    if here.runs and not loose:
        raise Refused(f"{here.guest} runs; stop it, or detach {want.disk} and hand over the unusedN that it becomes.")


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest, the disk as it is in the end, and the volumes that are in no slot."""
    slots, name = observed.here, want.disk
    if observed.other is not None and slots.volume(name) is None:
        slots, name = observed.other, want.target_disk or want.disk
    slot, volume = slots.slot(name), slots.volume(name)
    shown = {"vmid": slots.guest.vmid, "slot": name, "volume": volume, "storage": _storage(volume), "text": slot.text}
    return {
        "guest": observed.here.guest.shown(),
        "disk": {**shown, "waits": slot.waits},
        "unused": observed.here.unused(),
    }


FEATURE = Feature(wanted, observe, decide, result)
