#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_api
short_description: Ask any endpoint of the Proxmox VE API
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Reads or writes whatever the API has, for what has no module of its own. Waits for the task that a request starts.
  - With O(compare), an object is read first and only what differs is written, by meaning rather than by text, so that a
    second run changes nothing and check mode foretells the deed.
notes:
  - Without O(compare), O(creates) and O(removes), every request that writes is made on every run, and reports a change. One
    whose answer is lost is not made again; the task fails and says so.
  - Compared are numbers and booleans as such (V(true), V(1) and V("1") are the same), lists without regard to order,
    property strings without regard to the order of their keys, defaults that the server does not show, and options of
    guests as M(keel.proxmox.proxmox_vm_config) compares them.
  - The privileges that a request needs are told by the API documentation of the server; that of
    M(keel.proxmox.proxmox_vm_power) is C(VM.PowerMgmt) on C(/vms/VMID), for example.
  - The server's answer is returned as it is. Where it holds a secret, such as that of a new API token, set C(no_log) for
    the task.
options:
  path:
    description: Path of the endpoint below C(/api2/json), as V(/cluster/options).
    type: str
    required: true
  method:
    description: HTTP method.
    type: str
    default: get
    choices: [get, post, put, delete]
  params:
    description:
      - Parameters of the request. Booleans are sent as the server wants them, mappings as property strings.
      - Left out, none are sent.
    type: dict
  secret_params:
    description:
      - Parameters that nobody may see, such as passwords.
      - With O(compare), they are not compared, because the server does not show them; they are sent when anything else differs.
    type: dict
  compare:
    description:
      - Whether to read the object first, by a GET of O(read_path) or of the same O(path), and to write only what differs. A
        parameter C(delete) names those that are to be removed.
      - With O(method=delete), nothing is done to an object that does not exist.
    type: bool
    default: false
  read_path:
    description: What O(compare) reads. Left out, it is O(path).
    type: str
  creates:
    description: Path of an object; if it exists, nothing is done. Left out, the request is made in any case.
    type: str
  removes:
    description: Path of an object; if it does not exist, nothing is done. Left out, the request is made in any case.
    type: str
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_vm_config
"""

EXAMPLES = r"""
- name: Read the options of the cluster
  keel.proxmox.proxmox_api:
    path: /cluster/options
  register: options

- name: Set some of them, where they differ
  keel.proxmox.proxmox_api:
    method: put
    path: /cluster/options
    params:
      migration: {type: secure, network: 10.0.0.0/24}
      console: html5
    compare: true

- name: Create a pool that may be there already
  keel.proxmox.proxmox_api:
    method: post
    path: /pools
    params: {poolid: web, comment: Web servers}
    creates: /pools/web

- name: Put a guest under high availability
  keel.proxmox.proxmox_api:
    method: post
    path: /cluster/ha/resources
    params: {sid: "vm:100", max_restart: 3}
    creates: /cluster/ha/resources/vm:100

- name: Remove a pool, if it is there
  keel.proxmox.proxmox_api:
    method: delete
    path: /pools/web
    compare: true
"""

RETURN = r"""
data:
  description:
    - The answer of the server; with O(compare) the object, and after a change of it the answer to that.
    - V(null) where there is none, as when a write fails; with O(compare), the object as it is then.
  returned: on success, and when a write fails
  type: raw
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
  sample: [{method: PUT, path: /cluster/ha/resources/vm:100, params: {max_restart: 3}, summary: "change
    /cluster/ha/resources/vm:100: max_restart"}]
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: ["UPID:pve1:0000031D:00065374:6B006D77:qmstart:100:ansible@pve!ci:"]
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

from ..module_utils.api import FEATURE
from ..module_utils.argspec import WAIT
from ..module_utils.module import run

ARGUMENTS = {
    **WAIT,
    "path": {"type": "str", "required": True},
    "method": {"type": "str", "default": "get", "choices": ["get", "post", "put", "delete"]},
    "params": {"type": "dict"},
    "secret_params": {"type": "dict", "no_log": True},
    "compare": {"type": "bool", "default": False},
    "read_path": {"type": "str"},
    "creates": {"type": "str"},
    "removes": {"type": "str"},
}

CONSTRAINTS: dict[str, list[tuple[str, ...]]] = {}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
