#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_migrate
short_description: Move Proxmox VE guests to another node of the cluster
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Sees that a VM or a container is on a node, and migrates it there if it is on another one.
  - A VM that runs is moved while it runs. A container that runs is shut down, moved and started, as the server knows no other
    way. Guests that are stopped stay so.
  - What would keep the guest from the node is looked for before anything is sent, and all of it is reported in one message.
    This is about nodes that are down, storages that are not there, local disks and their snapshots, linked clones, CD-ROM images,
    devices of the node, mapped devices, rules of high availability, and memory.
  - A guest that is locked (backup, snapshot, another migration) is waited for as long as O(timeout) allows. A lock that no
    task holds any more is reported with the remedy.
notes:
  - Guests that high availability manages are moved by it. The module asks for that and waits until the guest is there, which
    takes some ten seconds more. High availability always takes local disks along.
  - Disks on shared storages stay where they are.
  - Needs the privileges C(VM.Audit) and C(VM.Migrate) on C(/vms/VMID), with O(target_storage) also C(VM.Config.Disk) there and
    C(Datastore.AllocateSpace) on C(/storage/STORAGE). How
    much memory is free is only known to users with C(Sys.Audit) on the node, which O(target_node=auto) needs for each of them.
  - Of several guests, two at a time are moved from or to a node, if O(parallel_per_node) does not say otherwise. With
    O(target_node=auto) it is one after the other, so that each sees where the last went; in check mode each is foretold as if it
    were alone.
  - O(pools) needs C(Pool.Audit) on C(/pool/POOL).
options:
  target_node:
    description:
      - Node on which the guest shall be.
      - With V(auto), a guest that is on one of O(exclude_nodes) goes to the node with the most room among those that nothing keeps
        it from, by memory that is neither in use nor promised to guests that run, see M(keel.proxmox.proxmox_capacity_info).
        A guest that is elsewhere stays where it is.
    type: str
    required: true
  exclude_nodes:
    description: Nodes that the guest is to leave, for O(target_node=auto), and only for that.
    type: list
    elements: str
  with_local_disks:
    description:
      - Whether the disks of a VM that runs may be copied if they are on local storage. That can take long.
      - Without it, such a VM is not moved. The disks of stopped VMs and of containers are always copied.
    type: bool
    default: false
  target_storage:
    description:
      - Storage of the target node for the disks that are on local storage.
      - The name of a storage takes all of them. A mapping takes each from the storage that is its key to the one that is its
        value, and leaves others. V(1) stands for the storages of the same names.
      - Left out, they go to the storages of the same names. A guest that is on O(target_node) already is not touched.
    type: raw
  bwlimit:
    description:
      - Limit for copying disks and memory, in KiB/s. V(0) means none.
      - Left out, the limits of the cluster and of the storages apply.
    type: int
  shutdown_timeout:
    description:
      - Seconds that a container that runs gets to shut down. One that has not by then runs on where it is, and the task fails.
        Must be shorter than O(timeout).
      - Left out, the server waits for 180 seconds.
    type: int
  overcommit:
    description:
      - Whether a guest that runs may be moved to a node that has less free memory than the guest is set up with.
      - Without it, the move is refused, for the target node could run out of memory later, when the guest uses what it has.
    type: bool
    default: false
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.guest
  - keel.proxmox.fleet
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_vm_clone
  - module: keel.proxmox.proxmox_vm_power
"""

EXAMPLES = r"""
- name: A guest is on the second node
  keel.proxmox.proxmox_migrate:
    name: web01
    target_node: pve2

- name: With its local disks, to another storage, at 100 MiB/s at most
  keel.proxmox.proxmox_migrate:
    vmid: 101
    target_node: pve2
    with_local_disks: true
    target_storage: local-zfs
    bwlimit: 102400

- name: Each local storage to one of its own
  keel.proxmox.proxmox_migrate:
    vmid: 101
    target_node: pve2
    with_local_disks: true
    target_storage:
      local: local
      local-lvm: local-zfs

- name: Move a guest off the node pve1, to wherever there is room
  keel.proxmox.proxmox_migrate:
    name: web01
    target_node: auto
    exclude_nodes: [pve1]

- name: Take all guests from a node before it is serviced; the next run finds none there, which is fine
  keel.proxmox.proxmox_migrate:
    nodes: [pve1]
    target_node: pve2
    with_local_disks: true
    allow_none: true
    timeout: 3600
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
  sample: {vmid: 101, name: web01, node: pve2, type: qemu, status: running, qmpstatus: running, lock: null, template: false,
    tags: [prod], pool: null, ha_state: null, uptime: 86400}
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
  sample: [{method: POST, path: /nodes/pve1/qemu/101/migrate, params: {target: pve2, online: true},
      summary: move VM 101 from node pve1 to pve2 while it runs}]
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: ["UPID:pve1:0000011A:000529A9:6B006A7D:qmigrate:101:ansible@pve!ci:"]
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: POST /nodes/pve1/qemu/101/migrate
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
from ..module_utils.migration import FEATURE
from ..module_utils.module import run

ARGUMENTS = {
    **GUEST,
    **FLEET,
    **WAIT,
    "target_node": {"type": "str", "required": True},
    "exclude_nodes": {"type": "list", "elements": "str"},
    "with_local_disks": {"type": "bool", "default": False},
    "target_storage": {"type": "raw"},
    "bwlimit": {"type": "int"},
    "shutdown_timeout": {"type": "int"},
    "overcommit": {"type": "bool", "default": False},
}

CONSTRAINTS = {"required_one_of": ONE_OR_FLEET, "mutually_exclusive": NOT_BOTH}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
