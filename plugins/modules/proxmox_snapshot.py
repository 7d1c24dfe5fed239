#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_snapshot
short_description: Take, remove and roll back to snapshots of Proxmox VE guests
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Sees that a VM or a container has a snapshot, or does not have it, or rolls the guest back to it.
  - Thins out old snapshots by number, among those whose names match a pattern.
  - Returns all snapshots of the guest, as a list and as a tree.
  - Before anything is sent, the server is asked whether the storages of the guest can take snapshots.
  - A guest that is locked (backup, another snapshot, migration) is waited for as long as O(timeout) allows. A lock that no
    task holds any more is reported with the remedy.
notes:
  - O(state=rollback) acts on every run and always reports a change.
  - Removing a snapshot leaves those that were taken after it; they then go back to the one before it.
  - On ZFS, and on storages that keep snapshots as chains of volumes, the server only rolls back to the newest snapshot;
    remove newer ones first.
  - A snapshot whose taking or removing was cut off is not touched unasked. It is reported, with the remedy.
  - Needs the privileges C(VM.Audit) and C(VM.Snapshot) on C(/vms/VMID); for rolling back, C(VM.Snapshot.Rollback) does instead of
    C(VM.Snapshot), and O(start=true) also needs C(VM.PowerMgmt).
  - Of several guests, four of a node are worked on at a time, if O(parallel_per_node) does not say otherwise. O(pools) needs
    C(Pool.Audit) on C(/pool/POOL).
options:
  state:
    description:
      - V(present) means the guest has the snapshot O(snapname). It is taken if it does not exist.
      - V(absent) means the guest has no snapshot O(snapname).
      - V(rollback) sets the disks and the configuration of the guest back to the snapshot O(snapname), on every run. What was
        written since is lost. A guest that runs is stopped for it, without being asked.
    type: str
    default: present
    choices: [present, absent, rollback]
  snapname:
    description:
      - Name of the snapshot. It begins with a letter, goes on with letters, digits, C(_) and C(-), and has 2 to 40 characters.
      - May be left out if only O(keep) is wanted.
    type: str
    aliases: [snapshot]
  description:
    description:
      - Description of the snapshot, for O(state=present). It is kept up to date. An empty text removes it.
      - Left out, the description of an existing snapshot is not touched, and a new one has none.
    type: str
  vmstate:
    description:
      - Whether a new snapshot holds the memory of the VM too, so that rolling back continues it where it was.
      - It has no effect on a VM that does not run, nor on a snapshot that exists. Containers have no such snapshots.
      - Left out, only the disks and the configuration are in a new snapshot.
    type: bool
  start:
    description:
      - Whether the guest is started after O(state=rollback).
      - Without it, the guest is stopped afterwards, also when it ran before. A VM whose snapshot holds its memory always runs
        afterwards.
    type: bool
    default: false
  force:
    description:
      - With O(state=absent), removes the snapshot from the configuration even if a disk's own snapshot cannot be removed. What
        could not be removed stays on the storage and is then in nobody's list.
      - Meant for snapshots that are incomplete.
    type: bool
    default: false
  keep:
    description:
      - How many of the snapshots that match O(pattern) may stay, for O(state=present). The oldest of them are removed, after
        O(snapname) was taken.
      - A snapshot O(snapname) that matches is always among those that stay.
      - Left out, no snapshot is removed.
    type: int
  pattern:
    description:
      - Names of the snapshots that O(keep) is about, with C(*), C(?) and C([...]) as in a shell. Case matters.
      - Needed with O(keep).
    type: str
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.guest
  - keel.proxmox.fleet
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_vm_power
  - module: keel.proxmox.proxmox_vm_clone
"""

EXAMPLES = r"""
- name: Take a snapshot before an upgrade
  keel.proxmox.proxmox_snapshot:
    name: web01
    snapname: before_upgrade
    description: Before the upgrade to 13

- name: Take a snapshot that holds the memory too
  keel.proxmox.proxmox_snapshot:
    vmid: 101
    snapname: running
    vmstate: true

- name: Take today's snapshot and keep the newest seven of them
  keel.proxmox.proxmox_snapshot:
    name: web01
    snapname: "daily-{{ now(fmt='%Y%m%d') }}"
    keep: 7
    pattern: daily-*

- name: Only thin out, without taking one
  keel.proxmox.proxmox_snapshot:
    name: web01
    keep: 3
    pattern: daily-*

- name: Go back to the snapshot and start the guest
  keel.proxmox.proxmox_snapshot:
    name: web01
    snapname: before_upgrade
    state: rollback
    start: true

- name: Remove the snapshot
  keel.proxmox.proxmox_snapshot:
    name: web01
    snapname: before_upgrade
    state: absent

- name: Take a snapshot of all guests that have both tags
  keel.proxmox.proxmox_snapshot:
    with_tags: [prod, web]
    snapname: before_upgrade

- name: Remove it, where there is one
  keel.proxmox.proxmox_snapshot:
    with_tags: [prod, web]
    snapname: before_upgrade
    state: absent
"""

RETURN = r"""
guest:
  description: The guest as observed afterwards, in check mode as it is now.
  returned: for one guest, unless it was not found
  type: dict
  contains:
    vmid:
      description: VMID.
      type: int
    name:
      description: Name.
      type: str
    node:
      description: Node on which it is.
      type: str
    type:
      description: V(qemu) or V(lxc).
      type: str
    status:
      description: V(running) or V(stopped). A paused guest is running, a hibernated one stopped.
      type: str
    qmpstatus:
      description: State by QEMU's own account, for example V(running), V(paused) or V(prelaunch).
      type: str
    lock:
      description: Lock, V(null) where there is none.
      type: str
    template:
      description: Whether it is a template.
      type: bool
    tags:
      description: Tags.
      type: list
      elements: str
    pool:
      description: Pool, where the guest had to be searched in the cluster; otherwise V(null).
      type: str
    ha_state:
      description: State in high availability, V(null) where that does not manage the guest.
      type: str
    uptime:
      description: Seconds since it was started.
      type: int
  sample: {vmid: 101, name: web01, node: pve1, type: qemu, status: running, qmpstatus: running, lock: null, template: false,
    tags: [prod], pool: null, ha_state: null, uptime: 86400}
snapshots:
  description: All snapshots of the guest as observed afterwards, the oldest first.
  returned: for one guest, unless it was not found
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
    parent:
      description: Snapshot that it goes back to, V(null) for the first.
      type: str
    description:
      description: Description, empty where there is none.
      type: str
    time:
      description: When it was taken, in seconds since 1970, by the clock of the node.
      type: int
    vmstate:
      description: Whether it holds the memory of the VM.
      type: bool
    snapstate:
      description: V(prepare) or V(delete) while it is taken or removed, or if that was cut off; otherwise V(null).
      type: str
  sample: [{name: before_upgrade, parent: null, description: Before the upgrade to 13, time: 1795190016, vmstate: false,
      snapstate: null}]
tree:
  description: The names of the snapshots, nested below those that they go back to.
  returned: for one guest, unless it was not found
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
    current:
      description: Whether the guest as it is now goes back to this one.
      type: bool
    children:
      description: Snapshots that go back to this one, in the same form.
      type: list
      elements: dict
  sample: [{name: before_upgrade, current: true, children: []}]
parent:
  description: Snapshot that the guest as it is now goes back to, V(null) where there is none.
  returned: for one guest, unless it was not found
  type: str
  sample: before_upgrade
results:
  description:
    - What came of each guest, by VMID, where O(vmids), O(names), O(with_tags), O(pools), O(nodes) or O(status) choose them.
    - Each holds what is returned for one guest, and what is below. RV(calls), RV(tasks) and the diff of the whole are those of all
      guests together; what else tells of a failure is of the first guest that failed.
  returned: for several guests
  type: list
  elements: dict
  contains:
    guest:
      description: The guest, as in RV(guest); one that could not be asked, as the cluster knows it.
      type: dict
    changed:
      description: Whether something was done to it, in check mode would be.
      type: bool
    failed:
      description: Whether it failed.
      type: bool
    msg:
      description: Why it failed. Not there if it did not.
      type: str
    calls:
      description: Its part of RV(calls).
      type: list
      elements: dict
    tasks:
      description: Its part of RV(tasks).
      type: list
      elements: str
    diff:
      description: The state before and after.
      type: dict
    warnings:
      description: Its warnings.
      type: list
      elements: str
  sample: [{guest: {vmid: 101, name: web01}, changed: true, failed: false, calls: [], tasks: [], warnings: [], diff: {before: {},
        after: {}}}]
calls:
  description: The writing requests that were made, in check mode those that would be made.
  returned: always
  type: list
  elements: dict
  contains:
    method:
      description: HTTP method.
      type: str
    path:
      description: Path below C(/api2/json).
      type: str
    params:
      description: Parameters, secrets masked.
      type: dict
    summary:
      description: What the call does.
      type: str
  sample: [{method: POST, path: /nodes/pve1/qemu/101/snapshot, params: {snapname: before_upgrade},
      summary: take snapshot before_upgrade of VM 101}]
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: ["UPID:pve1:000001D5:0006251C:6B006D00:qmsnapshot:101:ansible@pve!ci:"]
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: POST /nodes/pve1/qemu/101/snapshot
upid:
  description: UPID of the task of the server that failed or that still runs.
  returned: when such a task is the reason of the failure
  type: str
log:
  description: Last lines of the log of that task.
  returned: when such a task is the reason of the failure
  type: list
  elements: str
"""

from ..module_utils.argspec import FLEET, GUEST, NOT_BOTH, ONE_OR_FLEET, WAIT
from ..module_utils.module import run
from ..module_utils.snapshots import FEATURE

ARGUMENTS = {
    **GUEST,
    **FLEET,
    **WAIT,
    "state": {"type": "str", "default": "present", "choices": ["present", "absent", "rollback"]},
    "snapname": {"type": "str", "aliases": ["snapshot"]},
    "description": {"type": "str"},
    "vmstate": {"type": "bool"},
    "start": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "keep": {"type": "int"},
    "pattern": {"type": "str"},
}

CONSTRAINTS = {
    "required_one_of": [*ONE_OR_FLEET, ("snapname", "keep")],
    "mutually_exclusive": NOT_BOTH,
    "required_together": [("keep", "pattern")],
    "required_if": [("state", "absent", ["snapname"]), ("state", "rollback", ["snapname"])],
}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
