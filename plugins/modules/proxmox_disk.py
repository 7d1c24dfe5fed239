#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_disk
short_description: Move, attach, detach, hand over and remove disks of Proxmox VE guests
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Sees that one disk of a VM or container is on a storage, is in a slot, belongs to another guest, is detached, or is gone;
    and what is in a CD drive.
  - What a disk is like (that it exists, its size, cache, bandwidth) is declared with M(keel.proxmox.proxmox_vm_config).
  - Each task names one O(disk) and one thing that it asks of it. That is one of O(storage), O(target_vmid), O(volume), O(iso)
    and O(import_from), or O(state=detached) or O(state=absent).
  - A guest that is locked (backup, migration, another move) is waited for as long as O(timeout) allows. A lock that no task
    holds any more is reported with the remedy.
notes:
  - A VM that runs can lose and get disks in SCSI and VirtIO slots only. In IDE and SATA slots, and for EFI and TPM disks, the
    server keeps the change for the next time that the VM is stopped, and so it does for mount points that a container that runs
    is to lose. The task warns of that, and does not ask a second time.
  - A disk that is detached leaves the boot order of a VM, and does not come back into it when it is attached again. A CD drive
    that is not in the boot order is put at its end by the server whenever its image changes.
  - Moving with its source removed and removing are not possible while snapshots hold the volume.
  - Needs C(VM.Audit) and C(VM.Config.Disk) on C(/vms/VMID), for CD drives C(VM.Config.CDROM) instead. Beside these, it needs
    C(Datastore.AllocateSpace) on C(/storage/STORAGE) of the storage that a disk is moved to or imported to, and of the one from
    which it is removed or handed over. Handing over needs the same privileges on the other guest. An ISO image and an image to
    import need C(Datastore.Audit) or C(Datastore.AllocateSpace) on their storage, an imported disk of a VM C(VM.Clone) on that
    VM. Removing a volume of a container needs C(VM.Config.Options). Whether the source of a move is really gone is only looked
    for with C(Datastore.Audit) or C(Datastore.AllocateSpace) on its storage.
  - Absolute paths of the node are for user root@pam with a password only, in O(volume) and O(import_from).
options:
  disk:
    description:
      - Slot of the disk, for example V(scsi0), V(ide2), V(efidisk0), or for a container V(rootfs) or V(mp0).
      - V(unused0) and its like hold volumes that the guest owns and does not use.
    type: str
    required: true
  state:
    description:
      - With V(present), the disk is as the other options say.
      - With V(detached), nothing is in the slot, and its volume is kept as one of the guest's unused volumes. A cloud-init
        drive, which has nothing worth keeping, is removed by the server then.
      - With V(absent), nothing is in the slot and the volume is removed, with all that is on it. CD images are kept.
    type: str
    choices: [present, detached, absent]
    default: present
  storage:
    description:
      - Storage that the disk is to be on. It is moved there if it is on another one; the disk of a VM that runs is moved while
        it runs, a container must be stopped.
      - With O(import_from), the storage on which the imported disk is made.
    type: str
  format:
    description:
      - Format of the volume, for storages that know several. A disk of another format is converted.
      - Left out, the format stays where the storage can have it. For VMs only.
    type: str
    choices: [raw, qcow2, vmdk]
  keep_source:
    description:
      - Whether the volume that a disk was moved from is kept, as an unused volume of the guest.
      - Without it, it is removed after the copy. A volume that is in snapshots can only be kept.
    type: bool
    default: false
  bwlimit:
    description:
      - Limit for moving the disk, in KiB/s. V(0) means none.
      - Left out, the limits of the cluster and of the storages apply.
    type: int
  target_vmid:
    description:
      - Guest that is to have the disk, of the same kind and on the same node. The volume is renamed for it, not copied.
      - The guest that had it must be stopped, or the disk must be one of its unused volumes. It is done when the slot of the
        one guest is empty and that of the other is not.
    type: int
  target_disk:
    description:
      - Slot of the other guest. An unused volume of a container can only become an unused volume.
      - Left out, the slot of the same name.
    type: str
  volume:
    description:
      - Volume that is to be in the slot, V(STORAGE:NAME), or an unused volume of the guest by its name, for example V(unused0).
        The slot must be empty or hold it already; V(unused0) that is not there any more counts as what is in the slot.
      - With O(state=detached) and O(state=absent), the only volume that may go. If another one is in the slot, the task fails.
        With O(state=absent), this volume is also removed if it is one of the unused volumes.
      - Required to remove a volume from the mount point of a container, which takes the server two steps. The name lets a run
        that was cut off between them go on.
    type: str
  iso:
    description:
      - CD image that is to be in the drive, V(STORAGE:iso/FILE), V(cdrom) for the drive of the node, or V(none) for nothing. A
        drive that is not there is made, unless it would be empty.
      - For VMs only.
    type: str
  import_from:
    description:
      - Image that becomes the disk if the slot is empty, V(STORAGE:import/FILE), or the volume of another VM. It is copied to
        O(storage).
      - A slot that has a disk is left as it is. For VMs only.
    type: str
  options:
    description:
      - More keys for a disk that is attached (O(volume)) or imported (O(import_from)), for example C(discard), C(ssd), or for a
        mount point C(mp), which it needs. They are as in C(PUT /nodes/{node}/qemu/{vmid}/config), and its twin for containers.
      - A disk that is there already is not changed by them; M(keel.proxmox.proxmox_vm_config) does that.
    type: dict
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.guest
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_vm_config
  - module: keel.proxmox.proxmox_migrate
  - module: keel.proxmox.proxmox_storage_content
"""

EXAMPLES = r"""
- name: The disk is on another storage, while the VM runs
  keel.proxmox.proxmox_disk:
    name: web01
    disk: scsi0
    storage: shared
    format: qcow2
    bwlimit: 102400
    timeout: 3600

- name: Back again, with the volume on the other storage kept for some days
  keel.proxmox.proxmox_disk:
    name: web01
    disk: scsi0
    storage: local-lvm
    keep_source: true

- name: That volume is gone
  keel.proxmox.proxmox_disk:
    name: web01
    disk: unused0
    state: absent

- name: An installer is in the CD drive
  keel.proxmox.proxmox_disk:
    name: web01
    disk: ide2
    iso: local:iso/debian-13.iso

- name: Nothing is in the CD drive
  keel.proxmox.proxmox_disk:
    name: web01
    disk: ide2
    iso: none

- name: A second disk is made of an image
  keel.proxmox.proxmox_disk:
    name: web01
    disk: scsi1
    import_from: local:import/data.qcow2
    storage: local-lvm
    options:
      discard: "on"
      ssd: true

- name: Take the disk from the VM and keep what is on it
  keel.proxmox.proxmox_disk:
    name: web01
    disk: scsi1
    state: detached

- name: Give it to another VM
  keel.proxmox.proxmox_disk:
    name: web01
    disk: unused0
    target_vmid: 102
    target_disk: scsi1

- name: Move a mount point of a container
  keel.proxmox.proxmox_disk:
    vmid: 201
    disk: mp0
    storage: shared

- name: The mount point and its volume are gone
  keel.proxmox.proxmox_disk:
    vmid: 201
    disk: mp0
    volume: shared:201/vm-201-disk-0.raw
    state: absent
"""

RETURN = r"""
disk:
  description: The disk as it is afterwards, in check mode as it is now.
  returned: always, unless the guest was not found
  type: dict
  contains:
    vmid:
      description: VMID of the guest that has it.
      type: int
    slot:
      description: Slot.
      type: str
    volume:
      description: Volume, V(null) where the slot is empty.
      type: str
    storage:
      description: Storage of the volume, V(null) where it is on none.
      type: str
    text:
      description: Everything that is set for the disk, as the server writes it.
      type: str
    waits:
      description: Whether the guest gets it like this only when it is stopped the next time.
      type: bool
  sample: {vmid: 101, slot: scsi0, volume: "ceph:vm-101-disk-0", storage: ceph, text: "ceph:vm-101-disk-0,size=32G", waits: false}
unused:
  description: Volumes that the guest owns and does not use, by the names that the server has given them.
  returned: always, unless the guest was not found
  type: dict
  sample: {unused0: "local-lvm:vm-101-disk-0"}
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
  sample: {vmid: 101, name: web01, node: pve2, type: qemu, status: running, qmpstatus: running, lock: null, template: false,
    tags: [prod], pool: null, ha_state: null, uptime: 86400}
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
  sample: [{method: POST, path: /nodes/pve1/qemu/101/move_disk, params: {disk: scsi0, storage: ceph, delete: true},
      summary: move scsi0 of VM 101 from storage local-lvm to ceph}]
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: ["UPID:pve1:0000011A:000529A9:6B006A7D:qmmove:101:ansible@pve!ci:"]
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: POST /nodes/pve1/qemu/101/move_disk
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
from ..module_utils.disks import FEATURE
from ..module_utils.module import run

ARGUMENTS = {
    **GUEST,
    **WAIT,
    "disk": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "detached", "absent"], "default": "present"},
    "storage": {"type": "str"},
    "format": {"type": "str", "choices": ["raw", "qcow2", "vmdk"]},
    "keep_source": {"type": "bool", "default": False},
    "bwlimit": {"type": "int"},
    "target_vmid": {"type": "int"},
    "target_disk": {"type": "str"},
    "volume": {"type": "str"},
    "iso": {"type": "str"},
    "import_from": {"type": "str"},
    "options": {"type": "dict"},
}

CONSTRAINTS = {"required_one_of": ONE_GUEST}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
