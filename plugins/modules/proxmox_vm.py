#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_vm
short_description: Make, configure, start and delete VMs and containers of Proxmox VE
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Describes a whole guest in one task. The guest is made if it is not there, from nothing, from another guest (O(clone)), a backup
    (O(archive)), a disk image (C(import_from) in O(disks)) or a container template (O(ostemplate)). Then its configuration, pool,
    power state and, with O(state=template), its being a template are brought to what the task names.
  - What the task does not name stays as it is, on every run. What made the guest is not looked at again once it is there.
  - The whole configuration of a VM or container that is made from nothing goes into the one request that makes it.
  - A run that was cut off, repeated, goes on where the first one was; no second guest is made, also not where the VMID is
    left to the cluster and several runs ask for one at the same time.
  - With O(state=absent), guards are checked before anything is done, see O(force), O(allow_template) and O(purge). A guest that is
    protected is not deleted, nor one that has another name than the task says, nor a template that linked clones hang on.
  - Disks that the server could not remove with the guest are reported as warnings.
notes:
  - A guest that exists is not moved to O(node); M(keel.proxmox.proxmox_migrate) does that. Only a clone that was just
    made is, where the server cannot clone straight to another node. It is stopped then and on the node of its source.
  - VMID and name must belong together. To rename a guest, use M(keel.proxmox.proxmox_vm_config).
  - In check mode, MAC addresses and the names of volumes that the server would choose are left out or guessed.
  - A run without change costs three requests, with O(vmid) and the right O(node) two, without O(pool). O(wait_for) may cost one
    more.
  - Needs the privilege C(VM.Audit) on C(/vms/VMID), and there for what is configured C(VM.Config.CPU), C(VM.Config.Memory),
    C(VM.Config.Network), C(VM.Config.Disk), C(VM.Config.CDROM), C(VM.Config.HWType), C(VM.Config.Cloudinit) and
    C(VM.Config.Options), as M(keel.proxmox.proxmox_vm_config) tells in detail, the last one also for the O(name) of a VM that is
    made from nothing. O(power) and O(force) need C(VM.PowerMgmt), and O(wait_for) C(VM.GuestAgent.Audit) for VMs.
  - Making and deleting a guest and turning it into a template need C(VM.Allocate) on C(/vms/VMID); for making, C(VM.Allocate) on
    C(/pool/POOL) of the O(pool) does as well. Cloning needs C(VM.Clone) on the source, and C(VM.Migrate) on the clone where it has
    to be moved.
  - Disks need C(Datastore.AllocateSpace) on C(/storage/STORAGE), network cards C(SDN.Use) on C(/sdn/zones/localnetwork/BRIDGE) or,
    with a VLAN, on C(/sdn/zones/localnetwork/BRIDGE/VLAN), and images and templates of systems C(Datastore.Audit) on their storage.
    So does O(allow_template), to see the linked clones.
  - O(pool) needs C(Pool.Audit) on C(/pool/POOL), for a guest that is there also C(Pool.Allocate). O(unprivileged=false) needs
    C(Sys.Modify) on C(/). Restoring a backup needs C(VM.Backup) on the guest that it is of.
  - A guest that the credentials may not see is not found by its name, so O(state=absent) takes it for gone.
options:
  state:
    description:
      - With V(present), the guest is there, as the other options say.
      - With V(template), it is there, and a template. A guest that runs must have O(power=stopped), too. There is no way back.
      - With V(absent), it is deleted with its disks. Only what names the guest is used then, and O(force), O(allow_template),
        O(purge) and O(destroy_unreferenced_disks).
    type: str
    default: present
    choices: [present, absent, template]
  vmid:
    description:
      - VMID of the guest. One of O(vmid) and O(name) is needed.
      - Left out, a guest that is made gets the next free one, and is found by its O(name) afterwards.
    type: int
  name:
    description:
      - Name of the guest, of a container its host name. If several guests have it and O(vmid) is not given, the task fails.
      - Given with O(vmid), the guest must have this name, or nothing is done and the task fails.
    type: str
  node:
    description:
      - Node on which a guest is made that is not there. Needed to make one from nothing, from a backup or a container template; a
        clone is made on its source's node by default.
      - A guest that is there stays on its node. Together with O(vmid) it saves the search in the cluster, one request, where the
        guest is on this node.
    type: str
  type:
    description:
      - Kind of the guest, a VM (V(qemu)) or a container (V(lxc)). A guest of the other kind makes the task fail.
      - Left out, what is made from nothing is a VM, and what is there may be either.
    type: str
    choices: [qemu, lxc]
  power:
    description:
      - With V(started), the guest runs at the end; a paused one is resumed.
      - With V(stopped), it is shut down, with O(force) stopped.
      - With V(untouched), it stays as it is; a guest that is made is stopped.
      - Changes that a running guest cannot take wait for its next start, unless O(reboot=if_required).
    type: str
    default: untouched
    choices: [started, stopped, untouched]
  wait_for:
    description:
      - What to wait for once the guest runs, as long as O(timeout) allows. V(agent) is the answer of a VM's guest agent, V(ip)
        an address that is no loopback or link-local one. The addresses are returned.
      - For VMs, the agent must be enabled (O(agent)) and run in the guest; it is asked every five seconds. Of a container, the
        node knows the addresses.
      - A guest that does not run is not waited for.
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
  clone:
    description:
      - VMID or name of the guest or template to make the guest from. Digits alone are a VMID.
      - Left out, the guest is made otherwise, or must be there.
    type: str
  full:
    description:
      - Whether the clone gets disks of its own (V(true)) or shares those of the template (V(false)). For O(clone) only, and
        refused otherwise.
      - Left out, templates make linked clones, other guests full ones.
    type: bool
  format:
    description:
      - Format of the disks of a full clone of a VM. For O(clone) only, and refused otherwise.
      - Left out, the format of the source or the storage's own is used.
    type: str
    choices: [raw, qcow2, vmdk]
  snapname:
    description:
      - Snapshot of the source to clone. For O(clone) only, and refused otherwise.
      - Left out, its current state is cloned.
    type: str
  storage:
    description:
      - Storage for the disks of a full clone or a restored guest, and for a container's disks that name none. Left out, clones and
        restored guests use that of the original, and containers V(local).
    type: str
  bwlimit:
    description:
      - Limit of the copying, in KiB/s.
      - Left out, the limits of the storage or the datacenter hold.
    type: int
  archive:
    description:
      - Backup to restore the guest from, as the server names it, for example
        V(local:backup/vzdump-qemu-101-2026_01_31-02_00_00.vma.zst). Needs O(vmid). What else the task names is configured
        afterwards.
      - Left out, the guest is made otherwise, or must be there.
    type: str
  unique:
    description:
      - Whether a restored guest gets new MAC addresses. For O(archive) only, and refused otherwise.
      - Left out, it has those of the backup.
    type: bool
  ostemplate:
    description:
      - Template of a system to make a container from, as the server names it, for example
        V(local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst).
      - Left out, the guest is made otherwise, or must be there.
    type: str
  password:
    description:
      - Password of root in a container, set when it is made from O(ostemplate) and never again; the server has no way to change it.
        For O(ostemplate) only, and refused otherwise.
      - For VMs, see O(cipassword).
      - Left out, root has none.
    type: str
  unprivileged:
    description:
      - Whether a container is unprivileged. Left out, one that is made is. A container that is there and is not what is asked
        for makes the task fail, for the server cannot change it.
    type: bool
  force:
    description:
      - Whether a running guest may be stopped at once, without a shutdown, with O(state=absent) and O(power=stopped).
      - With O(state=absent), a running guest makes the task fail otherwise.
    type: bool
    default: false
  allow_template:
    description: Whether O(state=absent) may delete a template.
    type: bool
    default: false
  purge:
    description:
      - Whether O(state=absent) also takes the guest out of backup jobs, replication and high availability. A guest that high
        availability manages makes the task fail otherwise.
    type: bool
    default: false
  destroy_unreferenced_disks:
    description:
      - Whether O(state=absent) also destroys volumes of this VMID, on any storage, that the guest's configuration does not name.
    type: bool
    default: false
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.config
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_vm_clone
  - module: keel.proxmox.proxmox_vm_config
  - module: keel.proxmox.proxmox_vm_power
"""

EXAMPLES = r"""
- name: A web server from a template, running, with its address
  keel.proxmox.proxmox_vm:
    name: web01
    clone: debian-13
    cores: 2
    memory: 2048
    tags: [web]
    power: started
    wait_for: ip
  register: web01

- name: A VM from nothing
  keel.proxmox.proxmox_vm:
    vmid: 120
    name: db01
    node: pve1
    cores: 4
    memory: 8192
    ostype: l26
    agent: true
    pool: production
    net:
      net0:
        bridge: vmbr0
    disks:
      scsi0:
        storage: local-lvm
        size: 32
        discard: true
      ide2:
        cloudinit: local-lvm
    ciuser: admin
    sshkeys: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF2tGr9vXTCTC5iuNzh4Tn6fkjRZN9m0uJrZg1d3P3fE admin@example.com
    ipconfig:
      ipconfig0:
        ip: 192.0.2.10/24
        gw: 192.0.2.1
    power: started
    wait_for: ip
  register: db01

- name: A container
  keel.proxmox.proxmox_vm:
    name: dns01
    node: pve1
    ostemplate: local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst
    memory: 512
    features:
      nesting: true
    net:
      net0:
        bridge: vmbr0
        ip: dhcp
    disks:
      rootfs:
        storage: local-lvm
        size: 8
    power: started

- name: A template from a cloud image
  keel.proxmox.proxmox_vm:
    vmid: 9013
    name: debian-13-cloud
    node: pve1
    scsihw: virtio-scsi-single
    disks:
      scsi0:
        storage: local-lvm
        import_from: local:import/debian-13-genericcloud-amd64.qcow2
    state: template

- name: Gone, also if it runs
  keel.proxmox.proxmox_vm:
    vmid: 120
    name: db01
    state: absent
    force: true
"""

RETURN = r"""
guest:
  description: The guest as observed afterwards, in check mode as it is now; V(null) where there is none.
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
      description: Pool, where O(pool) is given or the guest had to be searched in the cluster; otherwise V(null).
      type: str
    ha_state:
      description: State in high availability, V(null) where that does not manage the guest.
      type: str
    uptime:
      description: Seconds since it was started.
      type: int
  sample: {vmid: 101, name: web01, node: pve1, type: qemu, status: running, qmpstatus: running, lock: null, template: false,
    tags: [prod], pool: null, ha_state: null, uptime: 3}
config:
  description:
    - Options of the guest as observed afterwards, in check mode as they are now, with what is pending, in the server's own
      words.
    - Here are the volumes and MAC addresses that the server has chosen. A password is not shown.
  returned: when there is a guest, and it is not to be deleted
  type: dict
  sample: {cores: "4", memory: "4096", name: web01, net0: "virtio=BC:24:11:2F:30:6B,bridge=vmbr0,tag=20"}
pending:
  description: Options that change with the next start of the guest, each with what is in force (RV(ignore:current)), what comes
    (RV(ignore:pending)) and whether it is removed (RV(ignore:delete)).
  returned: when there is a guest, and it is not to be deleted
  type: dict
  sample: {cores: {current: "2", pending: "4", delete: false}}
reboot_required:
  description: Whether the guest runs and must be restarted for that, in check mode whether it is so now.
  returned: when there is a guest, and it is not to be deleted
  type: bool
ip:
  description: The best of RV(addresses), V(null) where there is none.
  returned: when O(wait_for) is not V(none)
  type: str
  sample: 192.0.2.10
addresses:
  description: Addresses of the guest that others can use, the best one first; not those of loopback interfaces and single links.
  returned: when O(wait_for) is not V(none)
  type: list
  elements: str
  sample: [192.0.2.10, "2001:db8::10"]
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
  sample:
    - method: POST
      path: /nodes/pve1/qemu
      params: {vmid: 101, name: web01, cores: 4, scsi0: "local-lvm:32"}
      summary: create VM 101 'web01' on node pve1
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: ["UPID:pve1:0000031D:00065374:6B006D77:qmcreate:101:ansible@pve!ci:"]
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

from ..module_utils.argspec import CONFIG, GUEST, ONE_GUEST, REACH, WAIT
from ..module_utils.module import run
from ..module_utils.vm import FEATURE

ARGUMENTS = {
    **GUEST,
    # Not where to look for a guest first, as elsewhere, but where it is to be made.
    "node": {"type": "str"},
    **WAIT,
    **CONFIG,
    **REACH,
    "state": {"type": "str", "default": "present", "choices": ["present", "absent", "template"]},
    "power": {"type": "str", "default": "untouched", "choices": ["started", "stopped", "untouched"]},
    "clone": {"type": "str"},
    "full": {"type": "bool"},
    "format": {"type": "str", "choices": ["raw", "qcow2", "vmdk"]},
    "snapname": {"type": "str"},
    "storage": {"type": "str"},
    "bwlimit": {"type": "int"},
    "archive": {"type": "str"},
    "unique": {"type": "bool"},
    "ostemplate": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "unprivileged": {"type": "bool"},
    "force": {"type": "bool", "default": False},
    "allow_template": {"type": "bool", "default": False},
    "purge": {"type": "bool", "default": False},
    "destroy_unreferenced_disks": {"type": "bool", "default": False},
}

CONSTRAINTS = {"required_one_of": ONE_GUEST}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
