#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_node_info
short_description: Look at nodes of a Proxmox VE cluster
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Returns the nodes with what they have, what they are doing, their storages, and how many guests they have. Changes nothing.
notes:
  - Needs the privileges C(Sys.Audit) on C(/nodes/NODE) for measurements and details, C(Datastore.Audit) on
    C(/storage/STORAGE) for storages, and C(VM.Audit) on C(/vms/VMID) for guests. What the credentials may not see is
    missing, and nothing tells of it.
  - One request, and with O(details) one for each node that is up.
options:
  node:
    description: Only this node. Left out, all of them.
    type: str
  details:
    description: Whether each node is asked for what only it knows, such as its kernel and the model of its CPU.
    type: bool
    default: true
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_cluster_info
  - module: keel.proxmox.proxmox_capacity_info
  - module: keel.proxmox.proxmox_metrics_info
"""

EXAMPLES = r"""
- name: Look at all nodes
  keel.proxmox.proxmox_node_info:
  register: cluster

- name: Tell which are up
  ansible.builtin.debug:
    msg: "{{ cluster.nodes | selectattr('status', 'eq', 'online') | map(attribute='node') }}"

- name: Look at one node, as cheaply as can be
  keel.proxmox.proxmox_node_info:
    node: pve1
    details: false
"""

RETURN = r"""
nodes:
  description: The nodes, by name. Sizes are in bytes.
  returned: on success
  type: list
  elements: dict
  contains:
    node:
      description: Name.
      type: str
    status:
      description: V(online), V(offline) or V(unknown).
      type: str
    ha_state:
      description: State in high availability, V(null) where that manages nothing.
      type: str
    uptime:
      description: Seconds since it was started, V(null) where it is down.
      type: int
    cpu_usage:
      description: V(1) for all CPUs busy.
      type: float
    maxcpu:
      description: CPUs.
      type: int
    mem:
      description: Memory in use.
      type: int
    maxmem:
      description: Memory.
      type: int
    disk:
      description: Space in use on the root file system.
      type: int
    maxdisk:
      description: Size of the root file system.
      type: int
    guests:
      description: How many guests it has, C(total) and C(by_status). Templates are counted as V(template).
      type: dict
    storages:
      description: Its storages, each with C(storage), C(type), C(status), C(shared), C(content), C(used) and C(total).
      type: list
      elements: dict
    details:
      description:
        - What the node tells of itself, C(version), C(kernel), C(boot_mode), C(cpu_model), C(cpu_sockets), C(cpu_cores),
          C(load_average), C(memory), C(swap) and C(root_filesystem).
        - V(null) where it is down or was not asked.
      type: dict
    details_error:
      description: Why the node did not tell of itself.
      returned: when it was asked and did not
      type: str
  sample: [{node: pve1, status: online, ha_state: null, uptime: 3600, cpu_usage: 0.02, maxcpu: 16, mem: 2147483648,
    maxmem: 68719476736, disk: 33554432000, maxdisk: 268435456000, guests: {total: 2, by_status: {running: 1, template: 1}},
    storages: [], details: null}]
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

from ..module_utils.module import run
from ..module_utils.node_info import FEATURE

ARGUMENTS = {
    "node": {"type": "str"},
    "details": {"type": "bool", "default": True},
}

CONSTRAINTS: dict[str, list[tuple[str, ...]]] = {}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
