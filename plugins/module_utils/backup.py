# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup: a guest has been backed up now, or lately enough; a backup has these notes, this protection, or is gone.

A backup leaves its trace on the storage, so one that was made since the first look is known again although the answer to its
request was lost. The server works on one vzdump task of a node at a time and lets the others wait, with no lock on their
guests yet (PVE/VZDump.pm, getlock), so running tasks are looked at too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .backups import Backup, Place, Volid, listed, parse_volid, places, property_string, seconds
from .errors import Effect, ProxmoxError, Refused
from .guests import RESTING_LOCKS, Guest, GuestRef, reference, wait_for_lock
from .guests import observe as observe_guest
from .plan import Call, Feature, Plan, Reader

# Module option -> parameter of POST /nodes/{node}/vzdump; what is no text or number there has a line of its own below.
_PARAMETERS: Mapping[str, str] = {
    "storage": "storage",
    "mode": "mode",
    "compress": "compress",
    "zstd": "zstd",
    "pigz": "pigz",
    "bwlimit": "bwlimit",
    "ionice": "ionice",
    "protected": "protected",
    "remove": "remove",
    "stdexcludes": "stdexcludes",
    "exclude_path": "exclude-path",
    "stopwait": "stopwait",
    "lockwait": "lockwait",
    "mailnotification": "mailnotification",
    "notification_mode": "notification-mode",
    "pbs_change_detection_mode": "pbs-change-detection-mode",
}
_STRINGS = {"prune": "prune-backups", "fleecing": "fleecing", "performance": "performance"}

# What of a volume can be changed; the rest is about a new backup.
_OF_A_VOLUME = frozenset({"notes", "protected"})

# The server's limit for the template of notes (pve-guest-common, PVE/VZDump/Common.pm).
_LONGEST_NOTES = 1024


@dataclass(frozen=True)
class Wanted:
    """:param volid: a backup that is there; then there is no guest. :param parameters: of the call that makes a new one.

    :param max_age: seconds; a backup that is younger counts as made. :param once: one with these notes counts, however old.
    """

    guest: GuestRef
    state: str
    volid: Volid | None = None
    node: str | None = None
    storage: str = ""
    notes: str | None = None
    protected: bool | None = None
    max_age: int | None = None
    once: bool = False
    parameters: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Observed:
    """What there is.

    :param guest: None where a volume is looked at.
    :param backups: of the guest on the storage, newest first; of a volume, only that.
    :param now: the server's clock.
    :param task: UPID of a backup of this guest that is under way.
    :param known: volids that were there before this run can have asked for one.
    :param asked: whether an earlier look found nothing in the way of asking.
    :param node: of a volume: from which it is seen. :param notes: of a volume: all lines.
    """

    guest: Guest | None = None
    backups: tuple[Backup, ...] = ()
    now: int | None = None
    task: str | None = None
    known: frozenset[str] = frozenset()
    asked: bool = False
    node: str | None = None
    notes: str = ""

    @property
    def free(self) -> bool:
        return self.task is None and self.guest is not None and self.guest.lock is None

    @property
    def made(self) -> Backup | None:
        """The backup that was made since this run may have asked for it."""
        if not self.asked or not self.free:
            return None
        return next((backup for backup in self.backups if backup.volid not in self.known), None)


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    volid = parse_volid(options["volid"]) if options.get("volid") is not None else None
    state = options["state"]
    if volid is not None:
        return _wanted_volume(options, state, volid)
    if state == "absent":
        raise Refused("state=absent removes one backup; name it by its volid. proxmox_backup_info lists them.")
    if options.get("storage") is None:
        raise Refused("storage is missing: name the storage that the backup is to be on.")
    notes, once = options.get("notes"), bool(options.get("once"))
    if once and (not notes or "{{" in notes):
        raise Refused(
            "once compares notes, so it needs notes that are told in full: without variables of the server ({{guestname}} "
            "and the like)."
        )
    parameters = {name: options.get(option) for option, name in _PARAMETERS.items()}
    parameters |= {name: property_string(option, name, options.get(option)) for option, name in _STRINGS.items()}
    mailto = options.get("mailto")
    parameters["mailto"] = ",".join(mailto) if mailto else None
    parameters["notes-template"] = _template(notes) if notes else None
    age = options.get("max_age")
    return Wanted(
        reference(options),
        state,
        storage=options["storage"],
        notes=notes,
        protected=options.get("protected"),
        max_age=seconds("max_age", age) if age is not None else None,
        once=once,
        parameters={name: value for name, value in parameters.items() if value is not None},
    )


def _wanted_volume(options: Mapping[str, Any], state: str, volid: Volid) -> Wanted:
    new = sorted({"storage", "mailto", "max_age", *_PARAMETERS, *_STRINGS} - _OF_A_VOLUME)
    given = [option for option in new if options.get(option) is not None] + (["once"] if options.get("once") else [])
    if given:
        raise Refused(f"{', '.join(given)}: for a new backup, and volid names one that is there.")
    if state == "absent" and (options.get("notes") is not None or options.get("protected")):
        raise Refused("state=absent removes the backup; notes and protected: true ask for it to stay.")
    return Wanted(
        GuestRef(),
        state,
        volid,
        options.get("node"),
        volid.storage,
        options.get("notes"),
        options.get("protected"),
    )


def _template(notes: str) -> str:
    """Return notes as the server's template: on one line, backslashes and line feeds escaped."""
    text = notes.rstrip("\n").replace("\\", "\\\\").replace("\n", "\\n")
    if len(text) > _LONGEST_NOTES:
        raise Refused(
            f"notes are too long: {len(text)} characters of {_LONGEST_NOTES}, backslashes and line feeds counted twice."
        )
    return text


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the guest, its backups on the storage, and the backup that is under way."""
    if want.volid is not None:
        return _observe_volume(want, want.volid, reader, previous)
    guest = observe_guest(reader, want.guest, previous.guest if previous is not None else None)
    tasks = reader.get(f"/nodes/{guest.node}/tasks", source="active", typefilter="vzdump", vmid=guest.vmid)
    backups = tuple(listed(reader, Place(want.storage, guest.node), guest.vmid))
    known, asked = frozenset(backup.volid for backup in backups), False
    if previous is not None and previous.guest is not None and previous.guest.node == guest.node:
        asked = previous.asked or previous.free
        known = previous.known if asked else known
    return Observed(guest, backups, reader.server_time, tasks[0]["upid"] if tasks else None, known, asked)


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the backup where none counts, or what is left to do to a volume."""
    guest = observed.guest
    if guest is None or want.volid is not None:
        return _decide_volume(want, observed)
    before = {"backup": "none that counts"}
    after = {"backup": f"of {guest}, on {want.storage}"}
    if done or observed.made is not None:
        return Plan(after, after)
    waiting = None
    if guest.lock is not None and guest.lock not in RESTING_LOCKS:
        waiting = wait_for_lock(guest)
    elif observed.task is not None:
        waiting = f"the backup of {guest} that is under way, {observed.task}"
    call = Call(
        "POST",
        f"/nodes/{guest.node}/vzdump",
        {"vmid": guest.vmid, **(want.parameters or {})},
        f"back up {guest} to {want.storage}",
        ("vzdump", str(guest.vmid)),
    )
    if _counts(want, observed):
        return Plan(after, after)
    if guest.lock in RESTING_LOCKS:
        raise Refused(
            f"{guest} on node {guest.node} is hibernated, and the server backs up no locked guest; start it with proxmox_vm_power."
        )
    return Plan(before, after, (call,), waiting)


def _counts(want: Wanted, observed: Observed) -> bool:
    """Tell whether a backup that is there is as good as a new one."""
    for backup in observed.backups:
        if want.once and want.notes and backup.notes.strip() == want.notes.strip().splitlines()[0].strip():
            return True
        if want.max_age is not None and observed.now is not None and observed.now - backup.time <= want.max_age:
            return True
    return False


def _observe_volume(want: Wanted, volid: Volid, reader: Reader, previous: Observed | None) -> Observed:
    """Return one backup, from the node that sees it."""
    node = previous.node if previous is not None else want.node
    here = [Place(volid.storage, node)] if node is not None else None
    where = here or places(reader.get("/cluster/resources"), volid.storage)
    for place in where:
        rows = listed(reader, place, volid.vmid) if place.online else []
        found = next((backup for backup in rows if backup.volid == volid.text), None)
        if found is not None:
            path = f"/nodes/{place.node}/storage/{volid.storage}/content/{volid.text}"
            notes = reader.get(path).get("notes") if want.notes is not None else None
            return Observed(backups=(found,), now=reader.server_time, node=place.node, notes=str(notes or ""))
    down = [place.node for place in where if not place.online]
    if down:
        raise Refused(
            f"{volid.text} was not found, and its storage on {', '.join(down)} cannot be looked at, for the node is down."
        )
    _check_absent(volid, reader, where[0])
    return Observed(now=reader.server_time, node=node)


def _check_absent(volid: Volid, reader: Reader, place: Place) -> None:
    """Raise ProxmoxError where the backup may be there and only the credentials do not see it: lists leave those out in silence."""
    try:
        reader.get(f"/nodes/{place.node}/storage/{volid.storage}/content/{volid.text}")
    except ProxmoxError as error:
        if error.effect is not Effect.PERMANENT or error.status in (401, 403, None):
            raise


def _decide_volume(want: Wanted, observed: Observed) -> Plan:
    volid = want.volid
    if volid is None:
        raise AssertionError("a backup that is there is told by its volid")
    found = observed.backups[0] if observed.backups else None
    if want.state == "absent" and found is None:
        return Plan({"backup": None}, {"backup": None})
    if found is None:
        raise Refused(f"There is no backup {volid.text}. proxmox_backup_info lists those that there are.")
    path = f"/nodes/{found.node}/storage/{volid.storage}/content/{volid.text}"
    changes: dict[str, object] = {}
    if want.notes is not None and want.notes.rstrip("\n") != observed.notes.rstrip("\n"):
        changes["notes"] = want.notes.rstrip("\n")
    if want.protected is not None and want.protected is not found.protected:
        changes["protected"] = want.protected
    calls = [Call("PUT", path, changes, f"set {' and '.join(changes)} of {volid.text}")] if changes else []
    before: dict[str, object] = {"volid": volid.text}
    if want.notes is not None:
        before["notes"] = observed.notes.rstrip("\n")
    if want.protected is not None:
        before["protected"] = found.protected
    if want.state == "present":
        return Plan({"backup": before}, {"backup": {**before, **changes}}, calls)
    if found.protected and want.protected is None:
        raise Refused(
            f"{volid.text} is protected and was not removed. Set protected: false beside state: absent to remove it nevertheless."
        )
    # Its task is listed under the guest and the storage, which the list of tasks cannot be searched for.
    calls.append(Call("DELETE", path, {}, f"remove {volid.text}"))
    return Plan({"backup": {"volid": volid.text}}, {"backup": None}, calls)


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest, and the backup that was made or counts, or that was looked at."""
    shown = observed.made
    if shown is None and observed.backups and (want.volid is not None or _counts(want, observed)):
        shown = observed.backups[0]
    found = {"backup": shown.shown(observed.now) if shown is not None else None}
    return found if observed.guest is None else {**found, "guest": observed.guest.shown()}


FEATURE = Feature(wanted, observe, decide, result)
