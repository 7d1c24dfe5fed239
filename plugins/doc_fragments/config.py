# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What a guest is like."""

    DOCUMENTATION = r"""
options:
  description:
    description: Notes about the guest, in Markdown. Newlines at the end mean nothing.
    type: str
  tags:
    description:
      - Tags that the guest is to have, no others. An empty list removes all.
      - Their order means nothing. Case means nothing unless the tag style of the datacenter says otherwise.
      - A tag holds no blank.
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
      - A name or a key that is not known is refused where it looks like one that is, and left to the server otherwise. So are the
        keys of all dictionaries of this kind, and not those of an option that is written as the server's own text.
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
"""
