# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locks of guests: who holds one, and what is to be done about one that nobody holds.

The server keeps no owner of a lock (PVE/AbstractConfig.pm, set_lock), so the running tasks of the guest are its only witnesses.
"""

from __future__ import annotations

from collections.abc import Sequence

from .guests import RESTING_LOCKS, Guest, every_guest, tool_of, with_holder
from .plan import Reader

# lock -> what has most likely been cut off, and what is left to do once it is removed.
_REMAINS = {
    "backup": "A backup was cut off. The guest itself is whole; remove the unfinished backup from its storage.",
    "clone": "It was never finished. Destroy it.",
    "create": "It was never finished. Destroy it.",
    "destroyed": "Destroying it was cut off. Destroy it again.",
    "disk": "Moving or growing a disk was cut off. Compare its volumes with its configuration (pct rescan).",
    "fstrim": "Trimming its file systems was cut off. Nothing is left of that.",
    "import": "Importing its disks was cut off. Destroy it.",
    "migrate": "A migration was cut off. See on which node its volumes are, and remove copies from the other one.",
    "mounted": "Its file systems are mounted on the node (pct mount). Unmount them (pct unmount), which removes the lock.",
    "rollback": "Going back to a snapshot was cut off, and its disks may be half of each. Go back again.",
    "snapshot": "A snapshot was cut off. Remove it with state=absent and force=true of proxmox_snapshot.",
    "snapshot-delete": "Removing a snapshot was cut off. Remove it with state=absent and force=true of proxmox_snapshot.",
    "suspending": "Hibernating it was cut off. See whether it runs, and remove the volume of its saved memory.",
}


def unlocking(guest: Guest) -> str:
    """Return the command that removes the lock, on the guest's node."""
    return f"{tool_of(guest)} unlock {guest.vmid}"


def remains(guest: Guest) -> str:
    """Return what is left to do when nobody holds the lock and it has been removed."""
    return _REMAINS.get(guest.lock or "", "Nobody knows what was cut off; look at its tasks.")


def remedy(guest: Guest) -> str | None:
    """Return what a person can do about the guest's lock; None where there is nothing to do about it."""
    if guest.lock is None:
        return None
    if guest.lock in RESTING_LOCKS:
        return "It is hibernated; start it, with state=started of proxmox_vm_power."
    if guest.lock_task is not None:
        return f"The task {guest.lock_task} works on it. Wait for it or stop it with proxmox_task (state=finished, state=stopped)."
    if guest.unheld:
        return (
            f"No running task holds it. {remains(guest)} To remove the lock use proxmox_lock, or run '{unlocking(guest)}' on node "
            f"{guest.node}."
        )
    if guest.ha_state is not None:
        return "High availability manages it and may be at work on it; see what it says ('ha-manager status')."
    return "Whether a task holds it cannot be seen with these credentials; they need Sys.Audit on the nodes."


def shown(guest: Guest) -> dict[str, object]:
    """Return the lock as results show it; held is None where nobody can tell."""
    return {
        "vmid": guest.vmid,
        "name": guest.name,
        "node": guest.node,
        "type": guest.kind,
        "lock": guest.lock,
        "task": guest.lock_task,
        "held": True if guest.lock_task is not None else False if guest.unheld else None,
        "remedy": remedy(guest),
    }


def locked_guests(reader: Reader, nodes: Sequence[str] | None = None, vmid: int | None = None) -> list[Guest]:
    """Return the guests that are locked, each with the task that holds its lock."""
    return [
        with_holder(reader, guest, None)
        for guest in every_guest(reader)
        if guest.lock is not None and (nodes is None or guest.node in nodes) and vmid in (None, guest.vmid)
    ]
