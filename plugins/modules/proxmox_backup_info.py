#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_backup_info
short_description: List the backups of guests of Proxmox VE
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Returns the backups on the storages of the cluster, newest first. Changes nothing.
  - A backup on a storage that several nodes share is listed once.
notes:
  - Needs C(Datastore.Audit) and C(Datastore.AllocateSpace) on C(/storage/STORAGE), and C(VM.Backup) on C(/vms/VMID) of each guest.
    The server leaves out what the credentials may not use, without a word.
  - One request, and one more for each storage that keeps backups, or for each node of it where it is not shared.
options:
  vmid:
    description:
      - Only the backups of the guest with this VMID, whether it still exists or not.
      - Left out, the backups of all guests.
    type: int
  type:
    description:
      - Only the backups of VMs (V(qemu)) or of containers (V(lxc)).
      - Left out, of both.
    type: str
    choices: [qemu, lxc]
  storage:
    description:
      - Only the backups on this storage.
      - Left out, on all storages that keep backups.
    type: str
  node:
    description:
      - Only the backups that this node sees.
      - Left out, those that any node sees.
    type: str
  newer_than:
    description:
      - Only backups that were begun no longer ago than this. Seconds, or a time like V(30m), V(24h), V(7d) or V(1d12h).
      - Left out, however old.
    type: str
  older_than:
    description:
      - Only backups that were begun at least as long ago as this. Seconds, or a time like V(30m), V(24h), V(7d) or V(1d12h).
      - Left out, however new.
    type: str
  protected:
    description:
      - Only backups that are protected from removal, or only those that are not.
      - Left out, both.
    type: bool
  limit:
    description:
      - How many are returned at most, the newest ones.
      - Left out, all.
    type: int
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_backup
  - module: keel.proxmox.proxmox_restore
"""

EXAMPLES = r"""
- name: The backups of a guest
  keel.proxmox.proxmox_backup_info:
    vmid: 101
  register: found

- name: Its newest one must not be older than a day
  ansible.builtin.assert:
    that: found.backups[0].age < 86400

- name: What could be cleared away
  keel.proxmox.proxmox_backup_info:
    storage: local
    older_than: 90d
    protected: false
"""

RETURN = r"""
backups:
  description: The backups, newest first.
  returned: on success
  type: list
  elements: dict
  contains:
    volid:
      description: Its name, as O(ignore:volid) takes it.
      type: str
    storage:
      description: Storage.
      type: str
    node:
      description: Node from which it was seen.
      type: str
    shared:
      description: Whether other nodes see it too, V(null) where nobody asked.
      type: bool
    vmid:
      description: VMID of the guest that was backed up, V(null) where its name does not tell.
      type: int
    type:
      description: V(qemu) or V(lxc), V(null) where its name does not tell.
      type: str
    time:
      description: When it was begun, in seconds since the epoch.
      type: int
    age:
      description: Seconds since then, by the server's clock.
      type: int
    size:
      description: Size in bytes.
      type: int
    format:
      description: Format, for example V(vma.zst), V(tar.zst), V(pbs-vm) or V(pbs-ct).
      type: str
    notes:
      description: Notes; of storages that are no Proxmox Backup Server the first line.
      type: str
    protected:
      description: Whether it is protected from removal.
      type: bool
    encrypted:
      description: Whether it is encrypted, which only a Proxmox Backup Server tells.
      type: bool
    verification:
      description: What a Proxmox Backup Server last found, V(ok) or V(failed); V(null) where it has not verified it.
      type: str
  sample: [{volid: "local:backup/vzdump-qemu-101-2026_11_20-16_01_18.vma.zst", storage: local, node: pve1, shared: false,
    vmid: 101, type: qemu, time: 1795190478, age: 4, size: 16776989, format: vma.zst, notes: before the upgrade, protected: false,
    encrypted: false, verification: null}]
unreachable:
  description: Storages that could not be asked, so that backups on them may be missing above.
  returned: on success
  type: list
  elements: dict
  contains:
    storage:
      description: Storage.
      type: str
    node:
      description: Node that was asked.
      type: str
    message:
      description: Why it did not tell.
      type: str
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
  sample: GET /cluster/resources
"""

from ..module_utils.backup_info import FEATURE
from ..module_utils.module import run

ARGUMENTS = {
    "vmid": {"type": "int"},
    "type": {"type": "str", "choices": ["qemu", "lxc"]},
    "storage": {"type": "str"},
    "node": {"type": "str"},
    "newer_than": {"type": "str"},
    "older_than": {"type": "str"},
    "protected": {"type": "bool"},
    "limit": {"type": "int"},
}

CONSTRAINTS: dict[str, list[tuple[str, ...]]] = {}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
