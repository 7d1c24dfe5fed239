#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_vm_clone
short_description: Make sure that a guest of Proxmox VE exists, cloned from another one
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Makes sure that a guest with this VMID and this name exists, and clones it from O(source) where it does not.
  - A guest that exists is left as it is; the options beside O(vmid), O(name) and O(target_node) say how a clone is made, not
    how a guest must be. Use M(keel.proxmox.proxmox_vm_config) for that.
  - A clone that another run has under way is waited for. A guest that a clone left behind half made is reported with the remedy.
  - If the server cannot clone to O(target_node) because the disks are on local storage, the guest is cloned on the node of the
    source and then moved while it is stopped. If it could not be moved, because of an image in a CD drive on local storage or of a
    storage that O(target_node) lacks, nothing is done and the task fails.
notes:
  - Needs the privileges C(VM.Audit) and C(VM.Clone) on C(/vms/VMID) of the source, C(VM.Audit) and C(VM.Allocate) on C(/vms/VMID)
    of the new guest, C(Datastore.AllocateSpace) on C(/storage/STORAGE) of each disk of the clone, and C(SDN.Use) on
    C(/sdn/zones/localnetwork/BRIDGE) of each network card of the source. A VLAN has a path of its own below its bridge.
  - With O(pool), C(VM.Allocate) on C(/pool/POOL) does instead of that on the new guest.
  - With O(target_node=auto), also needs C(Sys.Audit) on C(/nodes/NODE) of each node that may be chosen.
  - With O(target_node), also needs C(Datastore.Audit) on the storages, to see which are shared, and C(VM.Migrate) on the new guest
    where it must be moved.
  - A guest that exists needs C(VM.Audit) only.
options:
  source:
    description:
      - VM, container or template to clone, by VMID or by name.
      - A text of digits only is a VMID. If several guests have the name, nothing is done and the task fails.
    type: str
    required: true
  vmid:
    description:
      - VMID of the new guest. If a guest with this VMID and another O(name) exists, nothing is done and the task fails.
      - Left out, a guest of this O(name) is looked for, and a new one gets the next free VMID.
    type: int
  name:
    description:
      - Name of the new guest, for containers its host name. If several guests have it, or one with another O(vmid), nothing is
        done and the task fails.
      - Left out, O(vmid) alone decides whether the guest exists, and the server makes up a name.
    type: str
  full:
    description:
      - Whether to copy the disks (V(true)) or to share those of the source (V(false), a linked clone).
      - Left out, a template gives a linked clone and any other guest a full one.
    type: bool
  target_node:
    description:
      - Node for the new guest.
      - A guest that exists and is stopped on the node of the source, as an interrupted run leaves it, is moved there. One that
        runs, or that is on a third node, is left where it is, with a warning.
      - With V(auto), a guest that is made goes to the node with the most room for it, by memory that is neither in use nor promised
        to guests that run, see M(keel.proxmox.proxmox_capacity_info). Only nodes count to which the server can clone at once, for
        which source and clone must be on shared storage; otherwise it is the node of the source. One that exists may be anywhere.
      - Left out, the guest is made on the node of the source, and one that exists may be anywhere.
    type: str
  storage:
    description:
      - Storage for the disks of a full clone.
      - Left out, the storages of the source are used.
    type: str
  format:
    description:
      - Format of the disks of a full clone of a VM, where the storage has a choice.
      - Left out, the format of the source or the storage's own is used.
    type: str
    choices: [raw, qcow2, vmdk]
  snapname:
    description:
      - Snapshot of the source to clone.
      - Left out, its current state is cloned.
    type: str
  pool:
    description:
      - Pool for the new guest.
      - Left out, it is in no pool.
    type: str
  description:
    description:
      - Description of the new guest.
      - Left out, it has that of the source.
    type: str
  bwlimit:
    description:
      - Most KiB per second to copy.
      - Left out, the limit of the storage or the datacenter holds.
    type: int
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_vm_config
  - module: keel.proxmox.proxmox_migrate
"""

EXAMPLES = r"""
- name: A guest from a template, with the next free VMID
  keel.proxmox.proxmox_vm_clone:
    source: debian-13
    name: web01
  register: web01

- name: A full copy with a VMID of its own, on another storage
  keel.proxmox.proxmox_vm_clone:
    source: 9000
    vmid: 110
    name: db01
    full: true
    storage: local-lvm

- name: A guest on another node
  keel.proxmox.proxmox_vm_clone:
    source: 9000
    name: web02
    full: true
    target_node: pve2
    pool: production

- name: A guest wherever there is room
  keel.proxmox.proxmox_vm_clone:
    source: 9000
    name: web03
    target_node: auto
"""

RETURN = r"""
guest:
  description: The guest as observed afterwards; V(null) in check mode while it does not exist.
  returned: always, unless the task failed early
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
  sample: {vmid: 101, name: web01, node: pve1, type: qemu, status: stopped, qmpstatus: stopped, lock: null, template: false,
    tags: [prod], pool: null, ha_state: null, uptime: 0}
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
  sample:
    - method: POST
      path: /nodes/pve1/qemu/9000/clone
      params: {newid: 101, name: web01}
      summary: clone VM 9000 to VM 101 'web01'
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: ["UPID:pve1:0000031D:00065374:6B006D77:qmclone:9000:ansible@pve!ci:"]
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: POST /nodes/pve1/qemu/9000/clone
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

from ..module_utils.argspec import WAIT
from ..module_utils.clone import FEATURE
from ..module_utils.module import run

ARGUMENTS = {
    **WAIT,
    "source": {"type": "str", "required": True},
    "vmid": {"type": "int"},
    "name": {"type": "str"},
    "full": {"type": "bool"},
    "target_node": {"type": "str"},
    "storage": {"type": "str"},
    "format": {"type": "str", "choices": ["raw", "qcow2", "vmdk"]},
    "snapname": {"type": "str"},
    "pool": {"type": "str"},
    "description": {"type": "str"},
    "bwlimit": {"type": "int"},
}

CONSTRAINTS = {"required_one_of": [("vmid", "name")]}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
