#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_metrics_info
short_description: Measurements of guests, nodes and storages of Proxmox VE
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Returns what was measured of a guest, a node or a storage, from the last hour to the last year, as numbers, with
    minimum, maximum, mean and the last value of each. Changes nothing.
notes:
  - Needs the privilege C(VM.Audit) on C(/vms/VMID) for a guest, C(Sys.Audit) on C(/nodes/NODE) for a node, and
    C(Datastore.Audit) on C(/storage/STORAGE) for a storage.
  - Of a guest there are C(cpu) (V(1) for all of its CPUs busy), C(maxcpu), C(mem), C(maxmem), C(memhost), C(disk),
    C(maxdisk) (bytes), C(netin), C(netout), C(diskread) and C(diskwrite) (bytes a second); of a node C(cpu), C(maxcpu),
    C(loadavg), C(iowait), C(memused), C(memtotal), C(memavailable), C(swapused), C(swaptotal), C(rootused), C(roottotal),
    C(netin) and C(netout); of a storage C(used) and C(total). All have more since Proxmox VE 9, such as C(pressurecpusome).
options:
  vmid:
    description: VMID of the guest.
    type: int
  name:
    description: Name of the guest. Given with O(vmid), the guest must have this name.
    type: str
  node:
    description:
      - The node that was measured, or on which the O(storage) is.
      - For a guest, the node on which it probably is; with O(vmid), it saves the search in the cluster, one request.
    type: str
  type:
    description: Kind of the guest. Left out, it is found out.
    type: str
    choices: [qemu, lxc]
  storage:
    description: The storage of O(node) that was measured. Left out, the guest or the node is meant.
    type: str
  timeframe:
    description: How far back.
    type: str
    default: hour
    choices: [hour, day, week, month, year]
  consolidation:
    description: What a point tells of its time, the average or the maximum.
    type: str
    default: average
    choices: [average, max]
  metrics:
    description: Which measurements are returned. Left out, all that there are.
    type: list
    elements: str
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_vm_info
  - module: keel.proxmox.proxmox_node_info
"""

EXAMPLES = r"""
- name: How busy was the guest in the last day
  keel.proxmox.proxmox_metrics_info:
    name: web01
    timeframe: day
    metrics: [cpu, mem]
  register: web

- name: Tell the mean
  ansible.builtin.debug:
    msg: "{{ (web.summary.cpu.mean * 100) | round(1) }} % of its CPUs"

- name: How full was the storage in the last year
  keel.proxmox.proxmox_metrics_info:
    node: pve1
    storage: local-lvm
    timeframe: year
    consolidation: max
"""

RETURN = r"""
guest:
  description: The guest, V(null) for a node or a storage.
  returned: on success
  type: dict
points:
  description: What was measured, by C(time) in seconds since the epoch. What was not measured at a time is missing there.
  returned: on success
  type: list
  elements: dict
  sample: [{time: 1795190000, cpu: 0.02, mem: 268435456.0}]
summary:
  description: Of each measurement C(count), C(min), C(max), C(mean) and C(last).
  returned: on success
  type: dict
  sample: {cpu: {count: 60, min: 0.01, max: 0.03, mean: 0.02, last: 0.02}}
seconds:
  description: Seconds from one point to the next, V(null) where there are no two.
  returned: on success
  type: int
  sample: 60
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

from ..module_utils.metrics import FEATURE
from ..module_utils.module import run

ARGUMENTS = {
    "vmid": {"type": "int"},
    "name": {"type": "str"},
    "node": {"type": "str"},
    "type": {"type": "str", "choices": ["qemu", "lxc"]},
    "storage": {"type": "str"},
    "timeframe": {"type": "str", "default": "hour", "choices": ["hour", "day", "week", "month", "year"]},
    "consolidation": {"type": "str", "default": "average", "choices": ["average", "max"]},
    "metrics": {"type": "list", "elements": "str"},
}

CONSTRAINTS = {"required_one_of": [("vmid", "name", "node")], "required_by": {"storage": ("node",)}}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
