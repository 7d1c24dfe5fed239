# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The datacenter's options.

Sources: pve-manager, PVE/API2/Cluster.pm (get_options); pve-cluster, PVE/DataCenterConfig.pm; pve-guest-common,
PVE/GuestHelpers.pm (get_allowed_tags).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from .propstring import split_list

if TYPE_CHECKING:
    from .cluster import Call


def options(call: Call) -> dict[str, Any]:
    """GET /cluster/options: without Sys.Audit only what the user interface needs."""
    cluster = call.cluster
    row: dict[str, Any] = {}
    if call.allowed("/", "Sys.Audit"):
        digest = hashlib.sha1(repr(sorted(cluster.tag_style.items())).encode()).hexdigest()
        row |= {"description": "", "digest": digest, "keyboard": "en-us", "mac_prefix": "BC:24:11"}
    if cluster.tag_style:
        row["tag-style"] = {
            key: int(value) if value.isdigit() else value for key, value in sorted(cluster.tag_style.items())
        }
    everything = call.allowed("/", "Sys.Modify")
    row["allowed-tags"] = sorted(
        {
            tag
            for vmid, guest in cluster.guests.items()
            if everything or call.allowed(f"/vms/{vmid}", "VM.Audit")
            for tag in split_list(guest.config.get("tags", ""))
        }
    )
    return row


ROUTES = {("GET", "/cluster/options"): options}
