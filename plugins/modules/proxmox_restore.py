#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_restore
short_description: Restore guests of Proxmox VE from backups
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Makes a VM or a container from a backup, one that is named or the newest of a guest. A guest that exists already with this
    O(vmid) or O(name) is left as it is, whatever it holds.
  - With O(force=true), replaces all that a guest holds by what is in the backup, on every run.
  - A VM that a failed restore has left behind with nothing in it is restored over without O(force).
notes:
  - Needs C(VM.Audit) and C(VM.Allocate) on C(/vms/VMID) of the new guest (or C(VM.Allocate) on C(/pool/POOL) with O(pool)),
    C(Datastore.AllocateSpace) on C(/storage/STORAGE) of the backup and C(VM.Backup) on C(/vms/VMID) of the guest in it,
    C(Datastore.AllocateSpace) on the storages for its disks, and for its network cards C(SDN.Use) on
    C(/sdn/zones/localnetwork/BRIDGE), with a VLAN on C(/sdn/zones/localnetwork/BRIDGE/VLAN).
  - To find the backup on its storage, also needs C(Datastore.Audit) on C(/storage/STORAGE), unless O(volid) and O(node) say where
    it is.
  - O(force=true) needs C(VM.Backup) instead of C(VM.Allocate) for a guest that exists. O(stop=true) and O(start=true) also need
    C(VM.PowerMgmt), O(name) also needs C(VM.Config.Options) for VMs and C(VM.Config.Network) for containers, and a privileged
    container C(Sys.Modify) on C(/).
  - O(force=true) acts on every run and always reports a change.
  - O(force=true) removes the disks that the guest has now, its snapshots and its pending changes with them.
options:
  volid:
    description:
      - The backup, by its name. One of O(volid) and O(latest) is needed.
    type: str
  latest:
    description:
      - Whether to restore the newest backup of O(source_vmid).
    type: bool
  source_vmid:
    description:
      - VMID of the guest whose newest backup is restored, for O(latest); it need not exist any more.
    type: int
  source_storage:
    description:
      - Storage on which the newest backup is searched, for O(latest).
      - Left out, on all storages that keep backups. If one of them cannot be asked, nothing is done and the task fails.
    type: str
  vmid:
    description:
      - VMID of the guest that is to exist. One of O(vmid) and O(name) is needed.
      - Left out, the next free one is taken, unless a guest of this O(name) exists.
    type: int
  name:
    description:
      - Name of the guest. Given with O(vmid), a guest that exists must have this name, or nothing is done and the task fails.
      - Left out, the guest has the name that is in the backup.
    type: str
  node:
    description:
      - Node on which a new guest is made; it must see the backup.
      - Left out, it is made where the backup is. Where several nodes see the backup, it is made beside the guest that was backed
        up, and without that on the first of them.
    type: str
  storage:
    description:
      - Storage for the disks.
      - Left out, the disks of a VM go to the storages that they were on, and the volumes of a container to V(local).
    type: str
  pool:
    description:
      - Pool that the guest is put into.
      - Left out, into none.
    type: str
  unique:
    description:
      - Whether the guest gets new MAC addresses and a new UUID, as a copy beside the original must.
      - Left out, it has those of the backup.
    type: bool
  bwlimit:
    description:
      - Bandwidth limit in KiB/s; V(0) is none.
      - Left out, the limits of the datacenter and the storages hold.
    type: int
  live_restore:
    description:
      - Whether the VM is started at once and restored while it runs, from a Proxmox Backup Server only.
      - Left out, it is not.
    type: bool
  start:
    description:
      - Whether the guest is to run. It is started after it was restored, and also when it was there and does not run.
      - With V(false), it is not started.
    type: bool
    default: false
  force:
    description:
      - Whether the guest with this O(vmid) is restored over, if it exists. It must be stopped; see O(stop).
      - With V(false), a guest that exists is left as it is.
    type: bool
    default: false
  stop:
    description:
      - Whether a guest that runs is stopped before it is restored over with O(force=true), as by pulling the plug.
      - With V(false), nothing is done to a guest that runs and the task fails.
    type: bool
    default: false
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_backup
  - module: keel.proxmox.proxmox_backup_info
"""

EXAMPLES = r"""
- name: A copy of a guest as it was backed up last, with addresses of its own
  keel.proxmox.proxmox_restore:
    latest: true
    source_vmid: 101
    name: web01-copy
    unique: true

- name: Look at the backups of a guest, the newest first
  keel.proxmox.proxmox_backup_info:
    vmid: 101
  register: found

- name: A certain backup, as VM 150
  keel.proxmox.proxmox_restore:
    volid: "{{ found.backups[0].volid }}"
    vmid: 150
    storage: local-lvm
    start: true

- name: Throw away what guest 101 holds now and go back to its last backup
  keel.proxmox.proxmox_restore:
    latest: true
    source_vmid: 101
    vmid: 101
    force: true
    stop: true
    start: true
"""

RETURN = r"""
guest:
  description: The guest as observed afterwards; V(null) in check mode while it does not exist.
  returned: always, unless the task failed early
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
    tags: [prod], pool: null, ha_state: null, uptime: 3600}
volid:
  description: The backup that was or would be restored; V(null) where the guest was left as it is.
  returned: always, unless the task failed early
  type: str
  sample: local:backup/vzdump-qemu-101-2026_11_20-16_01_18.vma.zst
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
  sample: [{method: POST, path: /nodes/pve1/qemu, params: {vmid: 150, storage: local-lvm,
    archive: "local:backup/vzdump-qemu-101-2026_11_20-16_01_18.vma.zst"},
    summary: "restore VM 150 from local:backup/vzdump-qemu-101-2026_11_20-16_01_18.vma.zst"}]
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: ["UPID:pve1:0000013E:0006E588:6B006EED:qmrestore:150:ansible@pve!ci:"]
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: POST /nodes/pve1/qemu
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
from ..module_utils.module import run
from ..module_utils.restore import FEATURE

ARGUMENTS = {
    **WAIT,
    "volid": {"type": "str"},
    "latest": {"type": "bool"},
    "source_vmid": {"type": "int"},
    "source_storage": {"type": "str"},
    "vmid": {"type": "int"},
    "name": {"type": "str"},
    "node": {"type": "str"},
    "storage": {"type": "str"},
    "pool": {"type": "str"},
    "unique": {"type": "bool"},
    "bwlimit": {"type": "int"},
    "live_restore": {"type": "bool"},
    "start": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "stop": {"type": "bool", "default": False},
}

CONSTRAINTS = {
    "required_one_of": [("vmid", "name"), ("volid", "latest")],
    "mutually_exclusive": [("volid", "latest"), ("volid", "source_vmid")],
    "required_if": [("latest", True, ["source_vmid"])],
    "required_by": {"source_vmid": ["latest"]},
}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
