#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_vm_power
short_description: Start, stop, restart, reset, pause and hibernate guests of Proxmox VE
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Brings a VM or a container to a power state.
  - What the server calls C(start), C(stop), C(shutdown), C(reboot), C(reset), C(suspend) and C(resume) is chosen from the
    state that is wanted and the one that the guest is in, as listed in the notes.
  - Guests that high availability manages are started and stopped through it; the module waits for the guest itself.
  - A guest that is locked (backup, snapshot, migration) is waited for as long as O(timeout) allows. A lock that no task
    holds any more is reported with the remedy.
notes:
  - C(start) is sent by O(state=started) and O(state=restarted) to a guest that is stopped or hibernated.
  - C(resume) is sent by O(state=started) to a guest that is paused.
  - C(shutdown) is sent by O(state=stopped) to a guest that runs, with O(force=after_timeout) ended by the server after
    O(shutdown_timeout).
  - C(stop) is sent by O(state=stopped) with O(force=now), and to a guest that cannot shut down by itself.
  - C(reboot) is sent by O(state=restarted) to a guest that runs. Unlike a reboot from inside the guest it applies pending
    changes.
  - C(reset) is sent by O(state=reset).
  - C(suspend) is sent by O(state=paused), and with C(todisk) by O(state=hibernated).
  - O(state=restarted) and O(state=reset) act on every run and always report a change.
  - Needs the privileges C(VM.Audit) and C(VM.PowerMgmt) on C(/vms/VMID). O(state=hibernated) also needs C(VM.Config.Disk) there,
    and C(Datastore.AllocateSpace) on the storage that the memory is saved on.
  - With C(Sys.Audit) on C(/nodes/NODE), a lock that no task holds any more can be told from one that is in use.
  - A stopped guest that is being backed up looks like a running one to the server; it counts as stopped here.
  - Of several guests, as many are worked on at a time as O(parallel) says, whatever their nodes, for it is the guests that take
    their time. O(pools) needs C(Pool.Audit) on C(/pool/POOL).
  - O(wait_for) also needs C(VM.GuestAgent.Audit) on C(/vms/VMID) for VMs (C(VM.Monitor) before Proxmox VE 9). An agent that does
    not answer is asked every five seconds, for each question holds a worker of the node for three.
options:
  state:
    description:
      - V(started) means the guest runs. A paused guest is resumed, a hibernated one continues where it was.
      - V(stopped) means the guest does not run. It is asked to shut down; see O(force). A hibernated guest counts as stopped
        and keeps its saved state.
      - V(restarted) shuts the guest down and starts it, on every run. A guest that does not run is started.
      - V(reset) presses the reset button of a running VM, on every run.
      - V(paused) means the VM is in memory and does not run.
      - V(hibernated) means the memory of the VM is saved on a storage and the VM does not run.
    type: str
    required: true
    choices: [started, stopped, restarted, reset, paused, hibernated]
  force:
    description:
      - What happens to a guest that must shut down, for O(state=stopped) and O(state=restarted).
      - With V(never), the task fails if the guest has not shut down in time, and the guest runs on.
      - High availability stops a VM that has not shut down in time whatever this says.
      - With V(after_timeout), a guest that has not shut down in time is stopped, as by pulling the plug.
      - With V(now), the guest is stopped at once, without being asked.
    type: str
    default: never
    choices: [never, after_timeout, now]
  shutdown_timeout:
    description:
      - Seconds that the guest gets to shut down. Must be shorter than O(timeout).
      - Left out, the server decides, 60 seconds unless the guest's own startup options say otherwise.
    type: int
  statestorage:
    description:
      - Storage for the saved memory, for O(state=hibernated).
      - Left out, the server chooses.
    type: str
  wait_for:
    description:
      - What to wait for once the guest runs, for O(state=started), O(state=restarted) and O(state=reset), within O(timeout).
        Nothing is changed by it, and a guest that runs already is waited for too.
      - V(none) does not wait.
      - V(agent) waits until the guest agent of a VM answers. Containers have no agent and are not waited for.
      - V(ip) waits until the guest has an address that others can use. A VM tells it through its agent.
    type: str
    default: none
    choices: [none, agent, ip]
  preferred_networks:
    description:
      - Networks whose addresses go before others in RV(ip) and RV(addresses), the earlier in the list the better.
      - Left out, addresses of network cards that Proxmox VE gave to the guest go before others, and IPv4 before IPv6.
    type: list
    elements: str
  refused_networks:
    description: Networks whose addresses are never used, such as those of containers inside the guest. Left out, none.
    type: list
    elements: str
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.guest
  - keel.proxmox.fleet
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_vm_config
"""

EXAMPLES = r"""
- name: Start a guest
  keel.proxmox.proxmox_vm_power:
    name: web01
    state: started

- name: Shut a guest down, and pull the plug after two minutes
  keel.proxmox.proxmox_vm_power:
    vmid: 101
    state: stopped
    force: after_timeout
    shutdown_timeout: 120

- name: Stop a guest at once
  keel.proxmox.proxmox_vm_power:
    vmid: 101
    state: stopped
    force: now

- name: Restart a guest, which applies its pending changes
  keel.proxmox.proxmox_vm_power:
    name: web01
    state: restarted

- name: Start all guests with a tag, sixteen at a time
  keel.proxmox.proxmox_vm_power:
    with_tags: [prod]
    state: started
    parallel: 16

- name: Shut down what runs of the test pools, but not by mistake half of the cluster
  keel.proxmox.proxmox_vm_power:
    pools: ["test", "test/*"]
    status: [running]
    state: stopped
    max_guests: 50
    allow_none: true

- name: Start a guest and wait for its address
  keel.proxmox.proxmox_vm_power:
    name: web01
    state: started
    wait_for: ip
    timeout: 120
  register: web01

- name: Use the address in what follows
  ansible.builtin.add_host:
    name: web01
    ansible_host: "{{ web01.ip }}"
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
    tags: [prod], pool: null, ha_state: null, uptime: 3}
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
ip:
  description: The best of RV(addresses), V(null) where there is none.
  returned: for one guest, when O(wait_for) is not V(none)
  type: str
  sample: 10.20.0.102
addresses:
  description: Addresses of the guest that others can use, the best one first; not those of loopback interfaces and single links.
  returned: for one guest, when O(wait_for) is not V(none)
  type: list
  elements: str
  sample: [10.20.0.102]
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
  sample: [{method: POST, path: /nodes/pve1/qemu/101/status/start, params: {}, summary: start VM 101}]
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: ["UPID:pve1:0000031D:00065374:6B006D77:qmstart:101:ansible@pve!ci:"]
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: POST /nodes/pve1/qemu/101/status/start
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

from ..module_utils.argspec import FLEET, GUEST, NOT_BOTH, ONE_OR_FLEET, REACH, WAIT
from ..module_utils.module import run
from ..module_utils.power import FEATURE

ARGUMENTS = {
    **GUEST,
    **FLEET,
    **WAIT,
    "state": {
        "type": "str",
        "required": True,
        "choices": ["started", "stopped", "restarted", "reset", "paused", "hibernated"],
    },
    "force": {"type": "str", "default": "never", "choices": ["never", "after_timeout", "now"]},
    "shutdown_timeout": {"type": "int"},
    "statestorage": {"type": "str"},
    **REACH,
}

CONSTRAINTS = {"required_one_of": ONE_OR_FLEET, "mutually_exclusive": NOT_BOTH}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
