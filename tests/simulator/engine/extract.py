# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration inside a backup.

Sources: pve-manager, PVE/API2/VZDump.pm (extractconfig); pve-storage, PVE/Storage.pm (extract_vzdump_config); qemu-server,
PVE/QemuServer.pm (write_vm_config) and PVE/VZDump/QemuServer.pm (assemble).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .guests import is_cdrom, is_drive
from .http import die
from .propstring import parse_drive

if TYPE_CHECKING:
    from .cluster import Call


def extractconfig(call: Call) -> str:
    """GET /nodes/{node}/vzdump/extractconfig."""
    cluster, volid = call.cluster, str(call.params["volume"])
    volume = cluster.storages.get(call.node, volid)
    cluster.access.check_volume(call.authid, None, volid, volume.content, volume.vmid, "backup")
    call.check(f"/vms/{volume.vmid}", "VM.Backup")
    if volid not in cluster.archives:
        raise die(f"unable to extract configuration of '{volid}'")
    config, kind = cluster.archives[volid]
    lines = [f"#{quote(line, safe=' ')}" for line in config.get("description", "").splitlines()]
    lines += [f"{key}: {value}" for key, value in sorted(config.items()) if key != "description"]
    for option, value in sorted(config.items()):
        if kind == "qemu" and is_drive(option) and not is_cdrom(parse_drive(option, value)):
            lines.append(f"#qmdump#map:{option}:drive-{option}:{volid.partition(':')[0]}:raw:")
    return "\n".join(lines) + "\n"


ROUTES: dict[tuple[str, str], Any] = {("GET", "/nodes/{node}/vzdump/extractconfig"): extractconfig}
