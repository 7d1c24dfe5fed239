#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_cluster_info
short_description: Look at a Proxmox VE cluster as a whole
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Returns quorum, nodes and their versions, what the cluster has and uses in all, and the next free VMID. Changes nothing.
  - A node that is in no cluster is returned as the only one, and counts as quorate.
notes:
  - Needs the privilege C(Sys.Audit) on C(/), and for what is counted C(VM.Audit) on C(/vms/VMID) and C(Datastore.Audit) on
    C(/storage/STORAGE).
  - Nothing reserves the next VMID; M(keel.proxmox.proxmox_vm_clone) takes a free one by itself.
  - Three requests, and one for each node that is up.
options: {}
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_node_info
  - module: keel.proxmox.proxmox_capacity_info
"""

EXAMPLES = r"""
- name: Look at the cluster
  keel.proxmox.proxmox_cluster_info:
  register: pve

- name: Go on only with quorum and one version everywhere
  ansible.builtin.assert:
    that:
      - pve.quorate
      - pve.versions | length == 1
"""

RETURN = r"""
cluster:
  description: Name of the cluster and version of its configuration, V(null) for a node that is in none.
  returned: on success
  type: dict
  sample: {name: lab, version: 3}
quorate:
  description: Whether the cluster has quorum. Without it nothing can be changed.
  returned: on success
  type: bool
nodes:
  description: The nodes, by name, each with C(node), C(id), C(ip), C(online), C(local) (the one that answered) and C(version).
  returned: on success
  type: list
  elements: dict
  sample: [{node: pve1, id: 1, ip: 10.0.0.11, online: true, local: true, version: 9.2.11}]
versions:
  description: The versions of Proxmox VE that are there.
  returned: on success
  type: list
  elements: str
  sample: [9.2.11]
next_vmid:
  description: The lowest VMID that is free.
  returned: on success
  type: int
  sample: 103
totals:
  description:
    - What the nodes that are up have in all. Sizes are in bytes, shared storages count once.
    - C(guests) has C(qemu), C(lxc) and C(by_status), where templates are counted as V(template); C(cpus) is a number;
      C(memory) and C(storage) have C(total) and C(used).
  returned: on success
  type: dict
  sample: {guests: {qemu: 2, lxc: 0, by_status: {running: 1, template: 1}}, cpus: 48, memory: {total: 206158430208, used:
    6442450944}, storage: {total: 805306368000, used: 10737418240}}
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

from ..module_utils.cluster_info import FEATURE
from ..module_utils.module import run

ARGUMENTS: dict[str, dict[str, object]] = {}

CONSTRAINTS: dict[str, list[tuple[str, ...]]] = {}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
