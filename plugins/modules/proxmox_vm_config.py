#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_vm_config
short_description: Configure VMs and containers of Proxmox VE
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Sets the options of a VM or a container, its network cards, disks, cloud-init settings and pool.
  - What the task does not name stays as it is, also inside an option, such as the bridge, the MAC address and the firewall
    of a card of which only the VLAN tag is named.
  - Values are compared by what they mean. C(on), C(1) and V(true), the order of keys and tags, an option that is set to its default
    and one that is not set make no change.
  - An empty value (V('') or an empty list) removes an option or a key of it; so does O(absent) for whole options.
  - Everything that the server takes in one request is written in one, and only if the configuration is still the one
    that was looked at. If somebody else has changed it meanwhile, the module looks and plans again.
  - A guest that is locked (backup, snapshot, migration) is waited for as long as O(timeout) allows.
notes:
  - Changes that a running guest cannot take wait for its next start; RV(pending) and RV(reboot_required) tell, by the server's own
    account. A restart from inside the guest does not apply them. A change that waits already is not written again.
  - In check mode, the module foretells by the server's rules for hotplug whether a reboot will be needed. It may be wrong where
    the guest itself decides, for example when it does not let go of a device.
  - A running VM with a cloud-init drive gets a new one when its cloud-init settings change, unless it is rebooted anyway. Every
    start makes a new one, too.
  - A run without change costs two requests with O(vmid) and the right O(node), otherwise three. O(pool), and tags in upper
    case, may cost one more.
  - Needs the privilege C(VM.Audit) on C(/vms/VMID), and there for what is changed C(VM.Config.CPU) (cores, CPU),
    C(VM.Config.Memory), C(VM.Config.Network) (network cards), C(VM.Config.Disk) (disks and boot order), C(VM.Config.CDROM),
    C(VM.Config.HWType) (machine, devices, hotplug), C(VM.Config.Cloudinit) (cloud-init) and C(VM.Config.Options) (everything
    else).
  - New disks and growing ones also need C(Datastore.AllocateSpace) on C(/storage/STORAGE), network cards C(SDN.Use) on
    C(/sdn/zones/localnetwork/BRIDGE), old and new, with a VLAN C(/sdn/zones/localnetwork/BRIDGE/VLAN), O(startup) C(Sys.Modify)
    on C(/), and O(reboot=if_required) C(VM.PowerMgmt) on the guest.
  - O(pool) needs C(VM.Allocate) on the guest, C(Pool.Allocate) and C(Pool.Audit) on C(/pool/POOL), and C(Pool.Allocate) on the
    pool that the guest is in.
  - Some options (C(args), C(hookscript), C(affinity), C(lock) and others) may only be set by C(root@pam) with a password, not by
    any API token.
  - Of several guests, four of a node are configured at a time, if O(parallel_per_node) does not say otherwise. O(tags) and O(pool)
    are what they are to have; O(with_tags) and O(pools) choose them.
options:
  name:
    description:
      - Without O(vmid), the name of the guest to configure. If several guests have it, nothing is done and the task fails.
      - With O(vmid), the name that the guest is to have; a container's name is its host name.
    type: str
  with_tags:
    description:
      - Chooses guests by their tags, or patterns of tags as for O(names). A guest matches if it has all of them.
      - Case means nothing unless the tag style of the datacenter says otherwise.
    type: list
    elements: str
    aliases: []
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.guest
  - keel.proxmox.fleet
  - keel.proxmox.config
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_vm_clone
  - module: keel.proxmox.proxmox_vm_power
"""

EXAMPLES = r"""
- name: Cores, memory and tags
  keel.proxmox.proxmox_vm_config:
    name: web01
    cores: 4
    memory: 4096
    tags: [prod, web]

- name: Another VLAN for the first card, and a second card
  keel.proxmox.proxmox_vm_config:
    vmid: 101
    net:
      net0:
        tag: 20
      net1:
        bridge: vmbr0
        firewall: true

- name: Grow the first disk to 32 GiB and add another one
  keel.proxmox.proxmox_vm_config:
    vmid: 101
    disks:
      scsi0:
        size: 32
        discard: true
        ssd: true
      scsi1:
        storage: local-lvm
        size: 100

- name: Set up cloud-init
  keel.proxmox.proxmox_vm_config:
    vmid: 101
    ciuser: admin
    sshkeys:
      - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF2tGr9vXTCTC5iuNzh4Tn6fkjRZN9m0uJrZg1d3P3fE admin@example.com
    nameserver: [192.0.2.53]
    ipconfig:
      ipconfig0:
        ip: 192.0.2.10/24
        gw: 192.0.2.1
    disks:
      ide2:
        cloudinit: local-lvm

- name: More cores, with a reboot if the guest runs and needs one
  keel.proxmox.proxmox_vm_config:
    name: web01
    cores: 8
    reboot: if_required

- name: Remove the description and detach a disk
  keel.proxmox.proxmox_vm_config:
    vmid: 101
    absent: [description, scsi1]

- name: Options that have no name of their own here
  keel.proxmox.proxmox_vm_config:
    vmid: 101
    options:
      tablet: false
      rng0:
        source: /dev/urandom

- name: A container
  keel.proxmox.proxmox_vm_config:
    vmid: 201
    name: dns01
    cores: 2
    memory: 512
    swap: 0
    features:
      nesting: true
    disks:
      rootfs:
        size: 16

- name: Give all web servers more memory
  keel.proxmox.proxmox_vm_config:
    names: ["web*"]
    with_tags: [prod]
    memory: 4096
"""

RETURN = r"""
guest:
  description: The guest as observed afterwards, in check mode as it is now.
  returned: for one guest, unless it was not found
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
  returned: for one guest, unless it was not found
  type: dict
  sample: {cores: "4", memory: "4096", name: web01, net0: "virtio=BC:24:11:2F:30:6B,bridge=vmbr0,tag=20"}
pending:
  description: Options that change with the next start of the guest, each with what is in force (RV(ignore:current)), what comes
    (RV(ignore:pending)) and whether it is removed (RV(ignore:delete)).
  returned: for one guest, unless it was not found
  type: dict
  sample: {cores: {current: "2", pending: "4", delete: false}}
reboot_required:
  description: Whether the guest runs and must be restarted for that, in check mode whether it is so now.
  returned: for one guest, unless it was not found
  type: bool
results:
  description:
    - What came of each guest, by VMID, where O(vmids), O(names), O(with_tags), O(pools), O(nodes) or O(status) choose them.
    - Each holds what is returned for one guest, and what is below. RV(calls), RV(tasks) and the diff of the whole are those of all
      guests together; what else tells of a failure is of the first guest that failed.
  returned: for several guests
  type: list
  elements: dict
  contains:
    guest:
      description: The guest, as in RV(guest); one that could not be asked, as the cluster knows it.
      type: dict
    changed:
      description: Whether something was done to it, in check mode would be.
      type: bool
    failed:
      description: Whether it failed.
      type: bool
    msg:
      description: Why it failed. Not there if it did not.
      type: str
    calls:
      description: Its part of RV(calls).
      type: list
      elements: dict
    tasks:
      description: Its part of RV(tasks).
      type: list
      elements: str
    diff:
      description: The state before and after.
      type: dict
    warnings:
      description: Its warnings.
      type: list
      elements: str
  sample: [{guest: {vmid: 101, name: web01}, changed: true, failed: false, calls: [], tasks: [], warnings: [], diff: {before: {},
        after: {}}}]
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
  sample: [{method: POST, path: /nodes/pve1/qemu/101/config, params: {cores: 4, digest: 0a1b}, summary: "configure VM 101: cores"}]
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: ["UPID:pve1:0000031D:00065374:6B006D77:qmconfig:101:ansible@pve!ci:"]
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: POST /nodes/pve1/qemu/101/config
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


from ..module_utils.argspec import CONFIG, FLEET, GUEST, NOT_BOTH, ONE_OR_FLEET, WAIT
from ..module_utils.config import FEATURE
from ..module_utils.module import run

ARGUMENTS = {
    **GUEST,
    **FLEET,
    **WAIT,
    # Here `tags` are those that the guests are to have.
    "with_tags": {"type": "list", "elements": "str"},
    **CONFIG,
}

CONSTRAINTS = {"required_one_of": ONE_OR_FLEET, "mutually_exclusive": NOT_BOTH}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
