#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_task_info
short_description: Look at tasks and locks of Proxmox VE
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Returns the tasks that the server runs and has run, of one node or all, or one task with its log. Changes nothing.
  - When something hangs, O(state=running) and O(locks=true) together tell what is going on, which guests are locked, by which
    task, and what can be done about it.
notes:
  - Credentials see their own tasks, and with C(Sys.Audit) on C(/nodes/NODE) those of others. What they may not see is missing,
    and nothing tells of it; that includes tasks of high availability, which belong to root@pam. A task that is asked for by
    O(upid) and may not be seen is an error.
  - O(locks) needs C(VM.Audit) on C(/vms/VMID). Whether a lock is held by a task can be told with C(Sys.Audit) on C(/nodes/NODE)
    of every node.
  - One request for each node that is up, and one for the list of nodes. With O(upid) two. O(locks) takes one more, and a few for
    each guest that is locked.
options:
  upid:
    description: One task, by its UPID, with its log. Excludes everything that chooses among tasks.
    type: str
  node:
    description: Only tasks of this node. Left out, those of every node that is up.
    type: str
  vmid:
    description: Only tasks that are about this guest alone. A clone counts for its source. Left out, all.
    type: int
  task_type:
    description: Only tasks of this type, for example V(vzdump) or V(qmigrate). Left out, all.
    type: str
  user:
    description: Only tasks of users whose name holds this text. Left out, all.
    type: str
  state:
    description:
      - Only tasks in these states.
      - V(warning) has succeeded with warnings. V(unknown) has ended without anybody to see how, as after a loss of power.
      - Left out, all.
    type: list
    elements: str
    choices: [running, ok, warning, error, unknown]
  since:
    description:
      - Only tasks that were started at this time or later, in seconds since 1970, or a date and time as ISO 8601 has it.
      - Without a time zone it is the time of the machine that runs the module. Left out, as far back as the server remembers.
    type: str
  until:
    description: Only tasks that were started at this time or earlier. Left out, up to now.
    type: str
  limit:
    description: How many tasks to return at most, the newest.
    type: int
    default: 50
  locks:
    description: Whether to return RV(locks) too, of O(node) and O(vmid) where they are given.
    type: bool
    default: false
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_task
  - module: keel.proxmox.proxmox_lock
"""

EXAMPLES = r"""
- name: See what is going on
  keel.proxmox.proxmox_task_info:
    state: [running]
    locks: true
  register: going_on

- name: Tell of locks that no task holds
  ansible.builtin.debug:
    msg: "{{ item.name }} on {{ item.node }} is locked ({{ item.lock }}): {{ item.remedy }}"
  loop: "{{ going_on.locks | rejectattr('held', 'equalto', true) }}"
  loop_control:
    label: "{{ item.vmid }}"

- name: Look for backups that went wrong since midnight
  keel.proxmox.proxmox_task_info:
    task_type: vzdump
    state: [error, unknown]
    since: "{{ now(fmt='%Y-%m-%d') }} 00:00"
"""

RETURN = r"""
tasks:
  description: The tasks, the newest first.
  returned: on success
  type: list
  elements: dict
  contains:
    upid:
      description: The name of the task.
      type: str
    node:
      description: Node on which it runs or ran.
      type: str
    type:
      description: Type, for example V(qmstart).
      type: str
    id:
      description: What it is about, most often a VMID; may be empty.
      type: str
    user:
      description: Who started it, with the name of the API token where it was one.
      type: str
    starttime:
      description: When it was started, in seconds since 1970.
      type: int
    endtime:
      description: When it ended, V(null) while it runs and where one task was asked for.
      type: int
    state:
      description: V(running), V(ok), V(warning), V(error), or V(unknown) where nobody saw its end, as after a loss of power.
      type: str
    exitstatus:
      description: How it ended, in the server's words, V(null) while it runs.
      type: str
    log:
      description: Lines of its log, where O(upid) asked for this task and it has ended, or may have.
      type: list
      elements: str
  sample: [{upid: "UPID:pve1:0000031D:00065374:6B006D77:qmstart:101:ansible@pve!ci:", node: pve1, type: qmstart, id: "101",
    user: "ansible@pve!ci", starttime: 1795190135, endtime: 1795190136, state: ok, exitstatus: OK}]
unreachable_nodes:
  description: Nodes that did not answer, whose tasks are missing.
  returned: on success
  type: list
  elements: str
  sample: []
locks:
  description: Guests that are locked.
  returned: on success, when O(locks)
  type: list
  elements: dict
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
  sample: [{vmid: 101, name: db, node: pve1, type: qemu, lock: backup, task: null, held: false, remedy: No running task holds it.}]
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: GET /nodes/pve1/tasks
"""

from ..module_utils.module import run
from ..module_utils.task_info import FEATURE
from ..module_utils.task_list import STATES

ARGUMENTS = {
    "upid": {"type": "str"},
    "node": {"type": "str"},
    "vmid": {"type": "int"},
    "task_type": {"type": "str"},
    "user": {"type": "str"},
    "state": {"type": "list", "elements": "str", "choices": list(STATES)},
    "since": {"type": "str"},
    "until": {"type": "str"},
    "limit": {"type": "int", "default": 50},
    "locks": {"type": "bool", "default": False},
}

CONSTRAINTS: dict[str, list[tuple[str, ...]]] = {}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
