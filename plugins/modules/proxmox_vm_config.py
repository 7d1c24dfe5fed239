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
  description:
    description: Notes about the guest, in Markdown. Newlines at the end mean nothing.
    type: str
  with_tags:
    description:
      - Chooses guests by their tags, or patterns of tags as for O(names). A guest matches if it has all of them.
      - Case means nothing unless the tag style of the datacenter says otherwise.
    type: list
    elements: str
    aliases: []
  tags:
    description:
      - Tags that the guest is to have, no others. An empty list removes all.
      - Their order means nothing. Case means nothing unless the tag style of the datacenter says otherwise.
    type: list
    elements: str
  cores:
    description: Cores, of a VM for each socket.
    type: int
  sockets:
    description: Sockets of a VM.
    type: int
  cpu:
    description:
      - CPU of a VM, as a dictionary (C(cputype), C(flags), C(hidden), ...) or the server's string such as V(host,flags=+aes).
    type: raw
  cpulimit:
    description: Limit of CPU use in CPUs; V(0) is none.
    type: float
  cpuunits:
    description: Weight against other guests. The server caps it at 10000.
    type: int
  numa:
    description: Whether a VM has NUMA.
    type: bool
  memory:
    description: Memory in MiB.
    type: int
  balloon:
    description: Least memory of a VM in MiB to which ballooning may shrink it; V(0) switches ballooning off.
    type: int
  swap:
    description: Swap of a container in MiB.
    type: int
  onboot:
    description: Whether the guest starts with its node.
    type: bool
  startup:
    description:
      - Order and delays of starting and stopping, as a dictionary (C(order), C(up), C(down)) or the server's string.
    type: raw
  protection:
    description: Whether the guest and its disks are protected from being removed.
    type: bool
  ostype:
    description: Operating system, for example V(l26) or V(win11) of a VM and V(debian) of a container.
    type: str
  machine:
    description:
      - Machine of a VM, as a dictionary (C(type), C(viommu), ...) or the server's string, for example V(q35).
    type: raw
  bios:
    description: Firmware of a VM.
    type: str
    choices: [seabios, ovmf]
  scsihw:
    description: SCSI controller of a VM.
    type: str
    choices: [lsi, lsi53c810, virtio-scsi-pci, virtio-scsi-single, megasas, pvscsi]
  vga:
    description:
      - Display of a VM, as a dictionary (C(type), C(memory), C(clipboard)) or the server's string, for example V(serial0).
    type: raw
  serial:
    description:
      - Serial ports of a VM, V(serial0) to V(serial3), with V(socket) or a device of the node as the value.
    type: dict
  agent:
    description:
      - QEMU guest agent of a VM, V(true) or V(false), a dictionary (C(enabled), C(fstrim_cloned_disks), C(type), ...) or the
        server's string.
    type: raw
  hotplug:
    description:
      - What a running VM takes at once, of V(network), V(disk), V(usb), V(cpu), V(memory) and V(cloudinit). V(0) is nothing.
    type: list
    elements: str
  boot:
    description: Devices to boot from, in order.
    type: list
    elements: str
  features:
    description:
      - Features of a container, as a dictionary (C(nesting), C(keyctl), C(fuse), C(mount), ...) or the server's string.
    type: raw
  timezone:
    description: Time zone of a container; V(host) is the node's.
    type: str
  tty:
    description: Number of terminals of a container.
    type: int
  nameserver:
    description: Addresses of name servers, of a VM by cloud-init.
    type: list
    elements: str
    aliases: [nameservers]
  searchdomain:
    description: Search domains, of a VM by cloud-init.
    type: list
    elements: str
    aliases: [searchdomains]
  citype:
    description: Format of the cloud-init drive. Left out and unset, the server chooses by the operating system.
    type: str
    choices: [configdrive2, nocloud, opennebula]
  ciuser:
    description: User that cloud-init sets up.
    type: str
  cipassword:
    description: Password that cloud-init sets. It cannot be read back; see O(update_password).
    type: str
  update_password:
    description:
      - With V(on_create), O(cipassword) is set if the VM has none.
      - With V(always), it is set on every run, and every run reports a change.
    type: str
    default: on_create
    choices: [on_create, always]
  sshkeys:
    description:
      - Public SSH keys that cloud-init installs, a list or lines of text. The VM gets these and no others.
    type: raw
  ciupgrade:
    description: Whether cloud-init upgrades the packages after the first boot.
    type: bool
  cicustom:
    description:
      - Files that replace what the server generates for cloud-init, as a dictionary of volumes (C(user), C(network), C(meta),
        C(vendor)) or the server's string. A change inside such a file is not visible to the server.
    type: raw
  ipconfig:
    description:
      - Addresses that cloud-init configures, V(ipconfig0) to V(ipconfig31), each a dictionary (C(ip), C(gw), C(ip6), C(gw6)) or the
        server's string. An address by DHCP takes the gateway away.
    type: dict
  net:
    description:
      - Network cards, V(net0) to V(net31), each a dictionary or the server's string. Keys that are not named stay.
      - Keys of a VM's card are C(bridge), C(model), C(tag), C(trunks), C(firewall), C(rate), C(mtu), C(queues), C(link_down) and
        C(mac); of a container's C(name), C(bridge), C(ip), C(gw), C(ip6), C(gw6), C(tag), C(trunks), C(firewall), C(rate), C(mtu),
        C(link_down) and C(mac).
      - A card that does not exist is added. What is not named of it is chosen, its MAC address by the server, the model of a VM's
        card as C(virtio), the name of a container's as C(ethN).
    type: dict
  disks:
    description:
      - Disks, CD drives and mount points by slot, V(scsi0), V(virtio1), V(ide2), V(sata0), V(efidisk0), V(tpmstate0), of a
        container V(rootfs) and V(mp0). Each is a dictionary or the server's string.
      - C(storage) and C(size) make a volume in an empty slot, once. C(size) is in GiB or has a unit (V(512M), V(1T)). C(format) is
        the format of a new volume and means nothing later.
      - V(efidisk0) and V(tpmstate0) need only C(storage), for their size is the server's.
      - C(storage) and C(import_from) fill an empty slot with a copy of a volume or image; with C(size), it is grown afterwards.
      - C(volume) attaches an existing volume to an empty slot; V(unused0) and so on name one of the guest's unused disks.
      - C(cdrom) (or C(iso)) inserts an ISO image into a CD drive, V(none) takes it out; a drive is made in an empty slot.
      - C(cloudinit) makes a cloud-init drive on the named storage, in an empty slot or a CD drive.
      - Every other key is an option of the drive, for example C(discard), C(ssd), C(iothread), C(cache), C(aio), C(backup),
        C(replicate), C(mbps_rd), and C(mp), C(ro), C(mountoptions) of a mount point. Options that are not named stay.
      - A disk that is smaller than C(size) is grown; one that is larger makes the task fail before anything is done. So does a slot
        that holds another volume, is on another storage, or is a CD drive where a disk is wanted.
    type: dict
  options:
    description:
      - Every other option of the server's API, under the server's name, for example C(smbios1), C(hostpci0), C(usb0), C(rng0),
        C(watchdog), C(tablet), C(hookscript), C(arch), C(cmode), C(dev0).
      - Options that consist of keys may be dictionaries and are merged key by key.
    type: dict
  absent:
    description:
      - Options to remove, as the server calls them, for example V(net1), V(scsi2), V(unused0), V(description), V(ciuser).
      - A disk that is removed becomes an unused disk and keeps its data; see O(destroy_disks). Removing an unused disk destroys it.
      - A disk of a running VM that cannot be unplugged is removed at its next start.
    type: list
    elements: str
  destroy_disks:
    description:
      - Whether disks that O(absent) removes are destroyed with their data. For VMs only; of a container, remove the mount point
        and then the unused disk.
    type: bool
    default: false
  pool:
    description:
      - Pool that the guest is to be in; it is taken out of any other. Empty (V('')) takes it out of its pool.
      - Finding out the pool may cost one request more.
    type: str
  reboot:
    description:
      - With V(never), changes that a running guest cannot take wait for its next start.
      - With V(if_required), a running guest for which changes wait, also older ones, is rebooted, and the module waits until it
        runs.
    type: str
    default: never
    choices: [never, if_required]
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.guest
  - keel.proxmox.fleet
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


from ..module_utils.argspec import FLEET, GUEST, NOT_BOTH, ONE_OR_FLEET, WAIT
from ..module_utils.config import FEATURE
from ..module_utils.module import run

ARGUMENTS = {
    **GUEST,
    **FLEET,
    **WAIT,
    # Here `tags` are those that the guests are to have.
    "with_tags": {"type": "list", "elements": "str"},
    "description": {"type": "str"},
    "tags": {"type": "list", "elements": "str"},
    "cores": {"type": "int"},
    "sockets": {"type": "int"},
    "cpu": {"type": "raw"},
    "cpulimit": {"type": "float"},
    "cpuunits": {"type": "int"},
    "numa": {"type": "bool"},
    "memory": {"type": "int"},
    "balloon": {"type": "int"},
    "swap": {"type": "int"},
    "onboot": {"type": "bool"},
    "startup": {"type": "raw"},
    "protection": {"type": "bool"},
    "ostype": {"type": "str"},
    "machine": {"type": "raw"},
    "bios": {"type": "str", "choices": ["seabios", "ovmf"]},
    "scsihw": {
        "type": "str",
        "choices": ["lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi"],
    },
    "vga": {"type": "raw"},
    "serial": {"type": "dict"},
    "agent": {"type": "raw"},
    "hotplug": {"type": "list", "elements": "str"},
    "boot": {"type": "list", "elements": "str"},
    "features": {"type": "raw"},
    "timezone": {"type": "str"},
    "tty": {"type": "int"},
    "nameserver": {"type": "list", "elements": "str", "aliases": ["nameservers"]},
    "searchdomain": {"type": "list", "elements": "str", "aliases": ["searchdomains"]},
    "citype": {"type": "str", "choices": ["configdrive2", "nocloud", "opennebula"]},
    "ciuser": {"type": "str"},
    "cipassword": {"type": "str", "no_log": True},
    "update_password": {"type": "str", "default": "on_create", "choices": ["on_create", "always"], "no_log": False},
    "sshkeys": {"type": "raw", "no_log": False},
    "ciupgrade": {"type": "bool"},
    "cicustom": {"type": "raw"},
    "ipconfig": {"type": "dict"},
    "net": {"type": "dict"},
    "disks": {"type": "dict"},
    "options": {"type": "dict"},
    "absent": {"type": "list", "elements": "str"},
    "destroy_disks": {"type": "bool", "default": False},
    "pool": {"type": "str"},
    "reboot": {"type": "str", "default": "never", "choices": ["never", "if_required"]},
}

CONSTRAINTS = {"required_one_of": ONE_OR_FLEET, "mutually_exclusive": NOT_BOTH}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
