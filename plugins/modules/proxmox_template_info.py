#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_template_info
short_description: Find what guests of Proxmox VE can be made from
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Returns the guests that are templates, and the templates of containers on the storages. Changes nothing.
notes:
  - Needs the privileges C(VM.Audit) on C(/vms/VMID) for guests and C(Datastore.Audit) on C(/storage/STORAGE) for templates
    of containers. What the credentials may not see is missing, and nothing tells of it.
  - A guest that was made a template less than ten seconds ago may be missing.
  - One request, one for each storage that holds templates of containers, and one with O(available).
options:
  type:
    description: Only templates of VMs (V(qemu)) or only those of containers (V(lxc)). Left out, both.
    type: str
    choices: [qemu, lxc]
  node:
    description: Only what is on this node. Left out, what is on any node.
    type: str
  available:
    description: Whether to return the server's list of container templates that it can fetch, too.
    type: bool
    default: false
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_storage_content
  - module: keel.proxmox.proxmox_vm_clone
"""

EXAMPLES = r"""
- name: Look for templates
  keel.proxmox.proxmox_template_info:
  register: found

- name: Clone the one that is called debian-13
  keel.proxmox.proxmox_vm_clone:
    source: "{{ (found.guests | selectattr('name', 'eq', 'debian-13') | first).vmid }}"
    name: web01

- name: Look which templates of containers can be fetched
  keel.proxmox.proxmox_template_info:
    type: lxc
    available: true
"""

RETURN = r"""
guests:
  description: Guests that are templates, by VMID. Sizes are in bytes.
  returned: on success
  type: list
  elements: dict
  sample: [{vmid: 9000, name: debian-13, node: pve1, type: qemu, tags: [], pool: null, maxcpu: 1, maxmem: 536870912,
    maxdisk: 2147483648}]
container_templates:
  description: Templates of containers on storages; C(node) is V(null) for a storage that all nodes share. Sizes are in bytes.
  returned: on success
  type: list
  elements: dict
  sample: [{volid: "local:vztmpl/alpine-3.22-default_20250617_amd64.tar.zst", storage: local, node: pve1, size: 3145728,
    format: tzst}]
available:
  description:
    - Templates that the server can fetch, each with C(template), C(os), C(version), C(section), C(headline) and C(sha512sum).
  returned: with O(available), unless O(type=qemu)
  type: list
  elements: dict
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
from ..module_utils.template_info import FEATURE

ARGUMENTS = {
    "type": {"type": "str", "choices": ["qemu", "lxc"]},
    "node": {"type": "str"},
    "available": {"type": "bool", "default": False},
}

CONSTRAINTS: dict[str, list[tuple[str, ...]]] = {}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
