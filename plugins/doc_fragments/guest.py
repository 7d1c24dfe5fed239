# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Which guest is meant."""

    DOCUMENTATION = r"""
options:
  vmid:
    description:
      - VMID of the guest. One of O(vmid) and O(name) is needed.
    type: int
  name:
    description:
      - Name of the guest. If several guests have it, nothing is done and the task fails.
      - Given with O(vmid), the guest must have this name, or nothing is done and the task fails.
    type: str
  node:
    description:
      - Node on which the guest probably is. With O(vmid), it saves the search in the cluster, one request.
      - Left out, or when the guest is on another node by now, the guest is searched. If the task runs on the controller, for a host
        of the inventory that has this VMID as C(proxmox_vmid), C(proxmox_node) and C(proxmox_type) of that host are tried first.
    type: str
  type:
    description:
      - Kind of the guest, a VM (V(qemu)) or a container (V(lxc)). With O(vmid) and O(node), it saves containers the search.
      - Left out, the kind is found out.
    type: str
    choices: [qemu, lxc]
"""
