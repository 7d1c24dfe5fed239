# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove a lock that nobody holds.

Only root@pam itself may (PVE/API2/Qemu.pm, update_vm: skiplock), and only of VMs: what writes a container's configuration heeds its
lock whoever asks (PVE/API2/LXC/Config.pm, update_vm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import Refused
from .guests import RESTING_LOCKS, Guest, GuestRef, reference
from .guests import observe as observe_guest
from .locks import remains, remedy, shown, unlocking
from .plan import Call, Feature, Plan, Reader

# How often no task may be seen in a row before it is believed.
LOOKS = 2
LOOK_PAUSE = 1.0


@dataclass(frozen=True)
class Wanted:
    """:param force: also when it is not known that nobody holds the lock. :param may: whether the credentials allow it."""

    guest: GuestRef
    force: bool = False
    may: bool = True


@dataclass(frozen=True)
class Observed:
    """:param first: the guest as it was found, for what the lock was. :param digest: of its configuration."""

    guest: Guest
    first: Guest
    digest: str | None = None


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    may = options.get("api_user") == "root@pam" and not options.get("api_token_id")
    return Wanted(reference(options), options["force"], may)


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the guest with its lock and the task that holds it."""
    guest = observe_guest(reader, want.guest, previous.guest if previous is not None else None)
    digest = reader.get(f"{guest.path}/config").get("digest") if guest.lock is not None else None
    return Observed(guest, previous.first if previous is not None else guest, digest)


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the call that removes the lock, once it is known that nobody holds it."""
    guest = observed.guest
    before = {"lock": guest.lock}
    if guest.lock is None:
        return Plan(before, before, warnings=[f"{guest}: {remains(observed.first)}"] if done else ())
    if guest.kind == "lxc":
        where = f"run '{unlocking(guest)}' on node {guest.node}. {remains(guest)}" if guest.unheld else remedy(guest)
        raise Refused(f"{guest} is locked ({guest.lock}), and the server's API cannot unlock a container: {where}")
    if not want.force and (guest.lock in RESTING_LOCKS or not guest.unheld):
        raise Refused(f"{guest} is locked ({guest.lock}), and the lock stays, for it may be in use. {remedy(guest)}")
    if not want.may:
        raise Refused(
            f"{guest} is locked ({guest.lock}), and only root@pam with a password may remove a lock, no API token: set api_user to "
            f"root@pam and api_password, or run '{unlocking(guest)}' on node {guest.node}. {remains(guest)}"
        )
    params = {"delete": "lock", "skiplock": True, "digest": observed.digest}
    call = Call("PUT", f"{guest.path}/config", params, f"unlock {guest} ({guest.lock})")
    # A task that has just ended may be about to remove the lock by itself, and one that begins is not in the list yet.
    waiting = None if want.force or guest.unheld >= LOOKS else f"another look at who holds the lock of {guest}"
    return Plan(before, {"lock": None}, [call], waiting, pause=LOOK_PAUSE)


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest, and its lock as it was found."""
    return {"guest": observed.guest.shown(), "lock": shown(observed.first) if observed.first.lock is not None else None}


FEATURE = Feature(wanted, observe, decide, result)
