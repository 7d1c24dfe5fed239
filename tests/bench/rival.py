"""The work of the other collection: its newest release, with settings that favour it where it has any.

It finds a fresh guest by VMID only, so VMIDs are used throughout. Its options about time stay as they are, but for `timeout`
where the server's work takes longer than the default of 30 looks, a second apart.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .world import BIN, RIVAL_HOME

COLLECTION = RIVAL_HOME / "collections" / "ansible_collections" / "community" / "proxmox"
Task = dict[str, Any]


def there() -> bool:
    """Tell whether it is installed."""
    return COLLECTION.joinpath("MANIFEST.json").exists() and BIN.joinpath("ansible-playbook").exists()


def version() -> str:
    """Return the collection's version."""
    manifest = json.loads(Path(COLLECTION / "MANIFEST.json").read_text(encoding="utf-8"))
    return str(manifest["collection_info"]["version"])


def started(timeout: int | None = None, **guest: Any) -> Task:
    """Have a VM run."""
    more = {} if timeout is None else {"timeout": timeout}
    return {"community.proxmox.proxmox_kvm": {**guest, "state": "started", **more}}


def snapshot(vmid: Any, name: str) -> Task:
    """Have a snapshot."""
    return {"community.proxmox.proxmox_snap": {"vmid": vmid, "snapname": name, "state": "present"}}


def make(vmid: int) -> list[Task]:
    """Clone, configure, grow, give a network interface and start."""
    kvm = "community.proxmox.proxmox_kvm"
    return [
        {
            "name": "clone",
            kvm: {
                "clone": "debian-13",
                "vmid": 9000,
                "newid": vmid,
                "name": f"bench{vmid}",
                "node": "pve1",
                "full": True,
                "storage": "shared",
                "format": "unspecified",
            },
        },
        {
            "name": "configure",
            kvm: {
                "vmid": vmid,
                "name": f"bench{vmid}",
                "node": "pve1",
                "update": True,
                "cores": 4,
                "memory": 1024,
                "tags": ["bench"],
            },
        },
        {
            "name": "grow",
            "community.proxmox.proxmox_disk": {"vmid": vmid, "disk": "scsi0", "size": "8G", "state": "resized"},
        },
        {
            "name": "network",
            "community.proxmox.proxmox_nic": {
                "vmid": vmid,
                "interface": "net0",
                "bridge": "vmbr1",
                "model": "virtio",
            },
        },
        {"name": "start", **started(vmid=vmid)},
    ]


def inventory(**options: Any) -> Task:
    """Return an inventory file; address and token come from the environment."""
    return {"plugin": "community.proxmox.proxmox", **options}
