#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_capacity_info
short_description: Find the nodes of a Proxmox VE cluster where a guest would fit
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Tells for each node whether a guest of some size would fit there, how many of them, and why not, the node with the most
    room first. Changes nothing.
  - Free memory of a node is what is not in use or what is not promised to the guests that run there, whichever is less.
notes:
  - Needs the privileges C(Sys.Audit) on C(/nodes/NODE) for the memory of a node, C(VM.Audit) on C(/vms/VMID) for what was
    promised to guests, and C(Datastore.Audit) on C(/storage/STORAGE) for space. Guests that the credentials may not see
    count by what they use, not by what they were promised.
  - When a guest is started, the server checks only that a VM has no more CPUs than its node.
  - One request. Its measurements are up to ten seconds old.
options:
  memory:
    description: Memory of the guest, in MiB. Left out, memory does not count.
    type: int
  cores:
    description: CPUs of the guest. Left out, they do not count.
    type: int
  disk:
    description: Size of its disk, as V(32G); a bare number counts GiB. Left out, space does not count.
    type: str
  storage:
    description: Storage for the disk. Left out, it is whichever of a node's storages has the most space.
    type: str
  type:
    description: Kind of the guest, which decides which storages may hold its disk.
    type: str
    default: qemu
    choices: [qemu, lxc]
  nodes:
    description: Nodes that may be chosen. Left out, all of them.
    type: list
    elements: str
  exclude_nodes:
    description: Nodes that may not be chosen. Left out, none.
    type: list
    elements: str
  overcommit:
    description: How much of a node's memory may be promised to guests that run, V(1) for all of it. What is in use is never free.
    type: float
    default: 1.0
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_node_info
  - module: keel.proxmox.proxmox_vm_clone
  - module: keel.proxmox.proxmox_migrate
"""

EXAMPLES = r"""
- name: Where would it fit
  keel.proxmox.proxmox_capacity_info:
    memory: 8192
    cores: 4
    disk: 64G
  register: room

- name: Clone it there
  keel.proxmox.proxmox_vm_clone:
    source: debian-13
    name: web01
    target_node: "{{ room.best }}"
  when: room.best is not none
"""

RETURN = r"""
best:
  description: The node with the most room, V(null) where the guest fits nowhere.
  returned: on success
  type: str
  sample: pve2
nodes:
  description: The nodes that may be chosen, the one with the most room first. Sizes are in bytes.
  returned: on success
  type: list
  elements: dict
  contains:
    node:
      description: Name.
      type: str
    fits:
      description: Whether the guest would fit.
      type: bool
    count:
      description: How many such guests would fit, V(null) where neither memory nor disk was asked for.
      type: int
    obstacles:
      description: Why it would not fit.
      type: list
      elements: str
    memory:
      description: Memory of the node, V(null) where the credentials may not see it.
      type: int
    memory_used:
      description: Memory in use.
      type: int
    memory_promised:
      description: Memory that the guests that run there were given.
      type: int
    memory_free:
      description: Memory that is free for another guest.
      type: int
    cpus:
      description: CPUs of the node.
      type: int
    cpu_usage:
      description: V(1) for all of them busy.
      type: float
    running_guests:
      description: How many guests run there.
      type: int
    storage:
      description: Storage that the disk would go to, V(null) where none was asked for.
      type: str
    storage_free:
      description: Space that is free there.
      type: int
  sample: [{node: pve2, fits: true, count: 7, obstacles: [], memory: 68719476736, memory_used: 2147483648, memory_promised: 0,
    memory_free: 66571993088, cpus: 16, cpu_usage: 0.02, running_guests: 0, storage: local-lvm, storage_free: 536870912000}]
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: GET /cluster/resources
"""

from ..module_utils.capacity import FEATURE
from ..module_utils.module import run

ARGUMENTS = {
    "memory": {"type": "int"},
    "cores": {"type": "int"},
    "disk": {"type": "str"},
    "storage": {"type": "str"},
    "type": {"type": "str", "default": "qemu", "choices": ["qemu", "lxc"]},
    "nodes": {"type": "list", "elements": "str"},
    "exclude_nodes": {"type": "list", "elements": "str"},
    "overcommit": {"type": "float", "default": 1.0},
}

CONSTRAINTS: dict[str, list[tuple[str, ...]]] = {}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
