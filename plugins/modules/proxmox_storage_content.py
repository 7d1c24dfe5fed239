#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_storage_content
short_description: Bring files to storages of Proxmox VE, and remove them
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Sees that a storage has a file, an image to install from (V(iso)), a template of containers (V(vztmpl)), or an image or
    appliance to import (V(import)), or does not have it. Without a name it tells what a storage holds.
  - The file comes from the host that runs this task (O(src)), from a web server (O(url)), or from the server's list of
    container templates (O(template)).
  - A file that is uploaded is read as it is sent, so it may be larger than the memory.
  - A file that another task fetches already is waited for.
notes:
  - A file of that name that came from O(url) or O(template) counts as the wanted one; its O(checksum) is verified when it
    is fetched, and not again.
  - Needs the privileges C(Datastore.Audit) and for O(state=present) C(Datastore.AllocateTemplate) on C(/storage/STORAGE),
    with O(url) also C(Sys.AccessNetwork) on C(/nodes/NODE), and for O(state=absent) C(Datastore.Allocate) on
    C(/storage/STORAGE).
  - The server takes no V(snippets) by its API. They can be looked at and removed.
  - The server keeps the letters, digits and C(. _ -) of a filename; other characters become underscores.
options:
  storage:
    description: Name of the storage.
    type: str
    required: true
  node:
    description:
      - Node that is asked, and that fetches the file.
      - Left out, any node that has the storage. Needed where each of several nodes has a storage of this name to itself.
    type: str
  state:
    description:
      - V(present) means the storage has the file. Without O(filename), O(src), O(url) and O(template), nothing is done.
      - V(absent) means it does not have it.
    type: str
    default: present
    choices: [present, absent]
  content:
    description:
      - What the file is, or without a name what is looked at.
      - Left out, the extension tells, or everything is looked at.
    type: str
    choices: [iso, vztmpl, import, snippets, backup, images, rootdir]
  filename:
    description: Name of the file on the storage. Left out, it is that of O(src), O(url) or O(template).
    type: str
  src:
    description: Path of a file on the host that runs this task, to be uploaded.
    type: path
  url:
    description: Address, C(http) or C(https), from which O(node) fetches the file.
    type: str
  template:
    description: Name in the list of container templates, as M(keel.proxmox.proxmox_template_info) with C(available) tells it.
    type: str
  checksum:
    description:
      - Algorithm and digits, as V(sha256:3ad1...). The server refuses a file with another one.
      - Left out, nothing is verified, but for O(template), whose checksum the server knows.
    type: str
  overwrite:
    description:
      - What happens to a file of that name that is there.
      - With V(never), it stays. If its size is not that of O(src), the task fails.
      - With V(changed), it is replaced if its size is not that of O(src).
      - With V(always), it is replaced on every run. With O(url) and O(template), it is removed first.
    type: str
    default: never
    choices: [never, changed, always]
  validate_url_certs:
    description: Whether the node that fetches from O(url) wants a valid certificate.
    type: bool
    default: true
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_template_info
"""

EXAMPLES = r"""
- name: Have a node fetch an image to install from
  keel.proxmox.proxmox_storage_content:
    storage: local
    node: pve1
    url: https://cdimage.debian.org/debian-cd/current/amd64/iso-cd/debian-13.2.0-amd64-netinst.iso
    checksum: "sha256:{{ debian_sha256 }}"

- name: Upload an image of one's own
  keel.proxmox.proxmox_storage_content:
    storage: shared
    src: files/appliance.qcow2
    overwrite: changed

- name: Fetch a template of containers
  keel.proxmox.proxmox_storage_content:
    storage: local
    node: pve1
    template: debian-13-standard_13.1-2_amd64.tar.zst

- name: Look at the images on a storage
  keel.proxmox.proxmox_storage_content:
    storage: shared
    content: iso
  register: images

- name: Remove a file
  keel.proxmox.proxmox_storage_content:
    storage: shared
    filename: appliance.qcow2
    state: absent
"""

RETURN = r"""
volume:
  description: The file, V(null) where it is not there.
  returned: with a name
  type: dict
  sample: {volid: "local:iso/debian.iso", content: iso, format: iso, size: 705691648, ctime: 1795190478}
contents:
  description: What the storage holds, by volume id.
  returned: without a name
  type: list
  elements: dict
  sample: [{volid: "local:iso/debian.iso", content: iso, format: iso, size: 705691648, ctime: 1795190478}]
node:
  description: The node that was asked.
  returned: on success
  type: str
  sample: pve1
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
  sample: [{method: POST, path: /nodes/pve1/storage/local/download-url, params: {content: iso, filename: debian.iso,
    url: "https://example.com/debian.iso"}, summary: fetch local:iso/debian.iso from https://example.com/debian.iso on node pve1}]
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: ["UPID:pve1:0000031D:00065374:6B006D77:download:debian.iso:ansible@pve!ci:"]
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

from ..module_utils.argspec import WAIT
from ..module_utils.content import FEATURE
from ..module_utils.module import run

ARGUMENTS = {
    **WAIT,
    "storage": {"type": "str", "required": True},
    "node": {"type": "str"},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "content": {"type": "str", "choices": ["iso", "vztmpl", "import", "snippets", "backup", "images", "rootdir"]},
    "filename": {"type": "str"},
    "src": {"type": "path"},
    "url": {"type": "str"},
    "template": {"type": "str"},
    "checksum": {"type": "str"},
    "overwrite": {"type": "str", "default": "never", "choices": ["never", "changed", "always"]},
    "validate_url_certs": {"type": "bool", "default": True},
}

CONSTRAINTS = {"mutually_exclusive": [("src", "url", "template")]}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
