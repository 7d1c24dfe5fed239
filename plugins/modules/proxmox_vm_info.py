#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_vm_info
short_description: Look at guests of Proxmox VE
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Returns one guest, or all that the credentials may see, with as much of each as is asked for. Changes nothing.
  - A guest that does not exist is no error; the list is empty then.
notes:
  - Needs the privilege C(VM.Audit) on C(/vms/VMID) of each guest, C(Pool.Audit) on C(/pool/POOL) for the pool, and for
    V(agent) among O(facts) C(VM.GuestAgent.Audit) on C(/vms/VMID) (before Proxmox VE 9 C(VM.Monitor)).
  - Without V(status) among O(facts), name, status and measurements are up to ten seconds old. Everything else is current.
  - One request for all guests, and one more for each guest and each of O(facts). The status of many guests of a node is one.
options:
  vmid:
    description: Only the guest with this VMID. Left out, O(name) and the other options choose.
    type: int
  name:
    description: Only guests of this name. Several may have it, and then all of them are returned.
    type: str
  node:
    description: Only guests on this node. Left out, those on all nodes.
    type: str
  type:
    description: Only VMs (V(qemu)) or only containers (V(lxc)). Left out, both.
    type: str
    choices: [qemu, lxc]
  facts:
    description:
      - What each guest is asked for. Each costs a request for each guest, V(status) of many guests of a node one for all of them.
      - V(status) gives the state of this moment, and current measurements.
      - V(config) gives the configuration, pending changes applied, as the server has it.
      - V(snapshots) gives the snapshots.
      - V(interfaces) gives the network interfaces of running containers, with their addresses.
      - V(agent) gives the network interfaces of running VMs whose configuration says that they have an agent. V(config) is
        asked for, too. An agent that does not answer costs three seconds.
      - Left out, it is V(status) for a guest that is named by O(vmid) or O(name), and nothing otherwise.
    type: list
    elements: str
    choices: [status, config, snapshots, interfaces, agent]
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_vm_config
  - module: keel.proxmox.proxmox_metrics_info
"""

EXAMPLES = r"""
- name: Look at one guest, live
  keel.proxmox.proxmox_vm_info:
    name: web01
  register: web

- name: Tell where it is
  ansible.builtin.debug:
    msg: "{{ web.guests[0].node if web.guests else 'nowhere' }}"

- name: Look at the configuration of every container
  keel.proxmox.proxmox_vm_info:
    type: lxc
    facts: [config]
"""

RETURN = r"""
guests:
  description: The guests, by VMID.
  returned: on success
  type: list
  elements: dict
  contains:
    vmid:
      description: VMID.
      type: int
    name:
      description: Name; one that the server makes up for a guest that has none.
      type: str
    node:
      description: Node on which it is.
      type: str
    type:
      description: V(qemu) or V(lxc).
      type: str
    status:
      description: State; V(running) or V(stopped), without V(status) among O(facts) also what QEMU says (V(paused) and so on).
      type: str
    qmpstatus:
      description: State by QEMU's own account.
      returned: for VMs, with V(status) among O(facts)
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
      description: Pool, V(null) where it is in none or the credentials may not see it.
      type: str
    ha_state:
      description: State in high availability, V(null) where that does not manage the guest.
      type: str
    uptime:
      description: Seconds since it was started.
      type: int
    cpu_usage:
      description: V(1) for all of its CPUs busy.
      type: float
    maxcpu:
      description: CPUs.
      type: float
    mem:
      description: Memory in use, in bytes.
      type: int
    maxmem:
      description: Memory, in bytes.
      type: int
    disk:
      description: Space in use on the root file system of a container, in bytes; V(0) for VMs.
      type: int
    maxdisk:
      description: Size of the boot disk or root file system, in bytes.
      type: int
    config:
      description: Configuration, as the server has it.
      returned: with V(config) among O(facts)
      type: dict
    snapshots:
      description: Snapshots.
      returned: with V(snapshots) among O(facts)
      type: list
      elements: dict
    interfaces:
      description: Network interfaces as the guest itself sees them.
      returned: with V(interfaces) or V(agent) among O(facts), for guests that run
      type: list
      elements: dict
    error:
      description: Why some of the facts are missing.
      returned: when some are
      type: str
  sample: [{vmid: 101, name: web01, node: pve1, type: qemu, status: running, qmpstatus: running, lock: null, template: false,
    tags: [prod], pool: prod, ha_state: null, uptime: 3, cpu_usage: 0.02, maxcpu: 2, mem: 268435456, maxmem: 1073741824, disk: 0,
    maxdisk: 8589934592}]
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
from ..module_utils.vm_info import FEATURE

ARGUMENTS = {
    "vmid": {"type": "int"},
    "name": {"type": "str"},
    "node": {"type": "str"},
    "type": {"type": "str", "choices": ["qemu", "lxc"]},
    "facts": {"type": "list", "elements": "str", "choices": ["status", "config", "snapshots", "interfaces", "agent"]},
}

CONSTRAINTS: dict[str, list[tuple[str, ...]]] = {}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
