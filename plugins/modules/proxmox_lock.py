#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_lock
short_description: Remove locks of guests of Proxmox VE that nobody holds
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Removes the lock that a backup, a migration or another task has left on a VM because it was cut off.
  - The server does not remember who has set a lock. It is removed when the module has seen twice that no running task of any node
    can hold it; otherwise nothing is done, and the failure names the task and what to do.
  - Afterwards a warning tells what is left to do, for what was cut off is not finished by removing the lock.
  - M(keel.proxmox.proxmox_task_info) with O(keel.proxmox.proxmox_task_info#module:locks=true) lists the locks of all guests.
notes:
  - Only root@pam may remove a lock, with O(api_user=root@pam) and O(api_password). No API token may, not even one of root@pam.
    A token that comes from the environment or from C(module_defaults) goes before a password; empty texts put it aside.
  - The server's API cannot unlock containers. For them the module tells which command to run on which node.
  - The lock of a hibernated guest is a state and not a leftover. Removing it with O(force=true) loses what was in memory.
  - To look needs C(VM.Audit) on C(/vms/VMID); to tell a lock that nobody holds, C(Sys.Audit) on C(/nodes/NODE) of every node.
options:
  state:
    description: V(absent) means the guest is not locked.
    type: str
    default: absent
    choices: [absent]
  force:
    description:
      - Whether to remove the lock although a task holds it, although nobody can tell, as with guests that high availability
        manages, or although the guest is hibernated.
      - A task that still works on the guest can then destroy it together with others. Stop the task first.
    type: bool
    default: false
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.guest
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_task
  - module: keel.proxmox.proxmox_task_info
"""

EXAMPLES = r"""
- name: Remove a lock that a backup has left
  keel.proxmox.proxmox_lock:
    name: web01
    api_user: root@pam
    api_password: "{{ root_password }}"
    api_token_id: ""
    api_token_secret: ""
"""

RETURN = r"""
guest:
  description: The guest as observed afterwards, in check mode as it is now.
  returned: always, unless it was not found
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
lock:
  description: The lock as it was found, V(null) where there was none.
  returned: always, unless the guest was not found
  type: dict
  contains:
    vmid:
      description: VMID.
      type: int
    name:
      description: Name.
      type: str
    node:
      description: Node on which the guest is.
      type: str
    type:
      description: V(qemu) or V(lxc).
      type: str
    lock:
      description: The lock, for example V(backup).
      type: str
    task:
      description: UPID of the running task that seems to hold it, V(null) where none was seen.
      type: str
    held:
      description: Whether a task holds it, V(null) where the credentials cannot tell.
      type: bool
    remedy:
      description: What can be done about it.
      type: str
  sample: {vmid: 101, name: db, node: pve1, type: qemu, lock: backup, task: null, held: false, remedy: No running task holds it.}
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
  sample: [{method: PUT, path: /nodes/pve1/qemu/101/config, params: {delete: lock, skiplock: true},
    summary: unlock VM 101 (backup)}]
tasks:
  description: Always empty; the server runs no tasks for it.
  returned: always
  type: list
  elements: str
  sample: []
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: PUT /nodes/pve1/qemu/101/config
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

from ..module_utils.argspec import GUEST, ONE_GUEST, WAIT
from ..module_utils.module import run
from ..module_utils.unlock import FEATURE

ARGUMENTS = {
    **GUEST,
    **WAIT,
    "state": {"type": "str", "default": "absent", "choices": ["absent"]},
    "force": {"type": "bool", "default": False},
}

CONSTRAINTS = {"required_one_of": ONE_GUEST}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
