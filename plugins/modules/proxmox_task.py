#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_task
short_description: Wait for a task of Proxmox VE, or stop it
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Waits until a task of the server has ended, or stops it.
  - UPIDs come from RV(ignore:tasks) of the other modules, for example with O(wait=false), from their failures, and from
    M(keel.proxmox.proxmox_task_info).
notes:
  - Tasks of others need C(Sys.Audit) on C(/nodes/NODE), and C(Sys.Modify) there for O(state=stopped).
  - A task that is stopped cleans up after itself where it can. What it may leave, such as a lock,
    M(keel.proxmox.proxmox_task_info) tells.
options:
  upid:
    description: UPID of the task.
    type: str
    required: true
  state:
    description:
      - V(finished) means the task has ended; it is waited for as long as O(timeout) allows, and then left alone. This changes
        nothing.
      - V(stopped) means the task does not run; one that runs is told to end, and after five seconds killed. One that has ended is
        left as it is.
    type: str
    required: true
    choices: [finished, stopped]
  fail_on_error:
    description:
      - Whether a task that has failed is a failure of the play's task too, for O(state=finished). A task that has succeeded with
        warnings is none.
    type: bool
    default: true
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_task_info
"""

EXAMPLES = r"""
- name: Start a guest and do not wait for it
  keel.proxmox.proxmox_vm_power:
    name: web01
    state: started
    wait: false
  register: begun

- name: Wait for what was begun
  keel.proxmox.proxmox_task:
    upid: "{{ item }}"
    state: finished
  loop: "{{ begun.tasks }}"

- name: Find backups that run
  keel.proxmox.proxmox_task_info:
    task_type: vzdump
    state: [running]
  register: backups

- name: Stop them
  keel.proxmox.proxmox_task:
    upid: "{{ item.upid }}"
    state: stopped
  loop: "{{ backups.tasks }}"
"""

RETURN = r"""
task:
  description: The task as observed afterwards.
  returned: always, unless it was not found
  type: dict
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
      description: When it ended, always V(null) here.
      type: int
    state:
      description: V(running), V(ok), V(warning), V(error), or V(unknown) where nobody saw its end, as after a loss of power.
      type: str
    exitstatus:
      description: How it ended, in the server's words, V(null) while it runs.
      type: str
    log:
      description: Lines of its log, where it has ended.
      type: list
      elements: str
  sample: {upid: "UPID:pve1:0000031D:00065374:6B006D77:qmstart:101:ansible@pve!ci:", node: pve1, type: qmstart, id: "101",
    user: "ansible@pve!ci", starttime: 1795190135, endtime: null, state: ok, exitstatus: OK}
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
  sample: []
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
  sample: DELETE /nodes/pve1/tasks/UPID
upid:
  description: UPID of a task that still runs.
  returned: when such a task is the reason of the failure
  type: str
log:
  description: Last lines of the log of that task.
  returned: when such a task is the reason of the failure
  type: list
  elements: str
"""

from ..module_utils.argspec import WAIT
from ..module_utils.module import run
from ..module_utils.task_state import FEATURE

ARGUMENTS = {
    **WAIT,
    "upid": {"type": "str", "required": True},
    "state": {"type": "str", "required": True, "choices": ["finished", "stopped"]},
    "fail_on_error": {"type": "bool", "default": True},
}

CONSTRAINTS: dict[str, list[tuple[str, ...]]] = {}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
