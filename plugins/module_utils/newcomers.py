# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests that are being made: which VMID a new one takes, and those of which nobody can tell yet whose they become.

The server takes the VMID at once and writes the name at the end (PVE/AbstractConfig.pm, create_and_lock_config).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .errors import Effect, ProxmoxError, Refused
from .guests import Guest, GuestRef, being_made, every_guest, observe, tool_of, vmid_is_taken, wait_for_lock
from .plan import Reader

# Looks at a guest of unknown name before the task behind it is searched; with growing pauses that is about 15 s.
PATIENT_LOOKS = 19


@dataclass(frozen=True)
class Newcomers:
    """Guests that are being made since the first look.

    :param unnamed: those whose names nobody can know yet; any may be the wanted one.
    :param looks: how often they were looked at.
    :param stray: those that no task works on any more.
    """

    unnamed: tuple[Guest, ...] = ()
    looks: int = 0
    stray: tuple[Guest, ...] = ()

    def waiting(self, name: str | None) -> str | None:
        """Return what to wait for before a guest of that name may be made, None for nothing; Refused where nobody makes it."""
        if not self.unnamed:
            return None
        return f"{wait_for_lock(self.unnamed[0])}: until then nobody can tell whether it becomes '{name}'"

    def warnings(self) -> list[str]:
        """Return what to tell of those that nobody works on."""
        return [
            f"{guest} on node {guest.node} is locked ({guest.lock}), has no name and no running task: most likely the rest of one "
            f"that was cut off. Remove it with '{tool_of(guest)} unlock {guest.vmid}' and '{tool_of(guest)} destroy {guest.vmid}' "
            "there."
            for guest in self.stray
        ]


NOBODY = Newcomers()


def newcomers(reader: Reader, guests: Sequence[Guest], previous: Newcomers | None, tried: int | None) -> Newcomers:
    """Return the guests that were being made at the first look, and the one that this run may have begun to make itself.

    :param guests: all that the cluster lists. :param previous: of the look before, None at the first.
    :param tried: the VMID of what this run has asked for.
    """
    making = [guest for guest in guests if being_made(guest)]
    if previous is None:
        return Newcomers(tuple(making))
    # Those that others begin later are not waited for: one run could wait for ever.
    known = {guest.vmid for guest in (*previous.unnamed, *previous.stray)} | {tried}
    gone = {guest.vmid for guest in previous.stray}
    unnamed = [guest for guest in making if guest.vmid in known - gone]
    now = Newcomers(tuple(unnamed), previous.looks + 1 if unnamed else 0, previous.stray)
    if not unnamed or now.looks < PATIENT_LOOKS:
        return now
    first = unnamed[0]
    earlier = next((guest for guest in previous.unnamed if guest.vmid == first.vmid), None)
    first = observe(reader, GuestRef(vmid=first.vmid, node=first.node, kind=first.kind), earlier)
    if first.unheld >= 2:
        return replace(now, unnamed=tuple(unnamed[1:]), stray=(*previous.stray, first))
    return replace(now, unnamed=(first, *unnamed[1:]))


def vmid_to_use(reader: Reader, vmid: int | None, name: str | None, tried: int | None) -> int:
    """Return the VMID for a new guest. One that was tried stays while it is free: if its first request is still on its way, the
    server refuses the second, and there is one guest, not two.

    :param vmid: that is asked for, None for the next free one. :param tried: by this run already.
    :raises ProxmoxError: STALE where somebody took the VMID at this moment; Refused where it is taken by a guest that is not seen.
    """
    if vmid is not None:
        if not vmid_is_taken(reader, vmid):
            return vmid
        if any(guest.vmid == vmid for guest in every_guest(reader)):
            raise ProxmoxError(f"VMID {vmid} was taken at this moment.", effect=Effect.STALE)
        raise Refused(f"VMID {vmid} is taken by a guest that the credentials may not see (VM.Audit on /vms/{vmid}).")
    if tried is not None and not vmid_is_taken(reader, tried):
        return tried
    free = int(reader.get("/cluster/nextid"))
    if tried is None:
        return free
    # Others take VMIDs at the same moment; not all of them should try the same one next, but those of one name should.
    apart = free + zlib.crc32(str(name).encode()) % 8
    return apart if apart != free and not vmid_is_taken(reader, apart) else free
