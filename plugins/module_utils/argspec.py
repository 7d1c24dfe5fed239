# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that several modules share; the documentation of each is in the fragment of the same name."""

from __future__ import annotations

import os
from typing import Any

from ansible.module_utils.errors import AnsibleFallbackNotFound

from .selection import SELECTORS


def from_environment(variable: str) -> str:
    """Return what the environment says; what is empty says nothing, as AWX sets fields of a credential that were left out."""
    value = os.environ.get(variable)
    if not value:
        raise AnsibleFallbackNotFound
    return value


def _from(variable: str) -> tuple[Any, list[str]]:
    return (from_environment, [variable])


AUTH: dict[str, Any] = {
    "api_host": {"type": "list", "elements": "str", "fallback": _from("PROXMOX_HOST")},
    "api_port": {"type": "int", "default": 8006, "fallback": _from("PROXMOX_PORT")},
    "api_user": {"type": "str", "fallback": _from("PROXMOX_USER")},
    "api_password": {"type": "str", "no_log": True, "fallback": _from("PROXMOX_PASSWORD")},
    "api_otp": {"type": "str", "no_log": True, "fallback": _from("PROXMOX_OTP")},
    "api_token_id": {"type": "str", "no_log": False, "fallback": _from("PROXMOX_TOKEN_ID")},
    "api_token_secret": {"type": "str", "no_log": True, "fallback": _from("PROXMOX_TOKEN_SECRET")},
    "api_fingerprint": {"type": "str", "fallback": _from("PROXMOX_FINGERPRINT")},
    "ca_path": {"type": "path", "fallback": _from("PROXMOX_CA_PATH")},
    "validate_certs": {"type": "bool", "default": True, "fallback": _from("PROXMOX_VALIDATE_CERTS")},
    "api_timeout": {"type": "float", "default": 35.0, "fallback": _from("PROXMOX_API_TIMEOUT")},
}

GUEST: dict[str, Any] = {
    "vmid": {"type": "int"},
    "name": {"type": "str"},
    "node": {"type": "str"},
    "type": {"type": "str", "choices": ["qemu", "lxc"]},
}

ONE_GUEST = [("vmid", "name")]

FLEET: dict[str, Any] = {
    "vmids": {"type": "list", "elements": "int"},
    "names": {"type": "list", "elements": "str"},
    "with_tags": {"type": "list", "elements": "str", "aliases": ["tags"]},
    "pools": {"type": "list", "elements": "str"},
    "nodes": {"type": "list", "elements": "str"},
    "status": {"type": "list", "elements": "str"},
    "template": {"type": "bool"},
    "parallel": {"type": "int", "default": 8},
    "parallel_per_node": {"type": "int"},
    "max_guests": {"type": "int", "aliases": ["max"]},
    "allow_none": {"type": "bool", "default": False},
}

# One guest, or several; where there is one, its node saves the search.
ONE_OR_FLEET = [("vmid", "name", *SELECTORS)]
NOT_BOTH = [(one, several) for one in ("vmid", "name", "node") for several in SELECTORS]

WAIT: dict[str, Any] = {
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 600},
}

NETWORKS: dict[str, Any] = {
    "preferred_networks": {"type": "list", "elements": "str"},
    "refused_networks": {"type": "list", "elements": "str"},
}

REACH: dict[str, Any] = {
    "wait_for": {"type": "str", "default": "none", "choices": ["none", "agent", "ip"]},
    **NETWORKS,
}

CONFIG: dict[str, Any] = {
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
