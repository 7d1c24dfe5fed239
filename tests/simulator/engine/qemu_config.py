# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM's configuration: reading it, and writing it with everything that the server rewrites.

Sources: qemu-server, PVE/API2/Qemu.pm (vm_config, vm_pending, update_vm_api), PVE/QemuServer.pm (vmconfig_hotplug_pending,
parse_vm_config, write_vm_config); pve-guest-common, PVE/AbstractConfig.pm and PVE/GuestHelpers.pm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .http import die
from .model import Config, Guest

if TYPE_CHECKING:
    from .cluster import Call, Cluster

MASK = "**********"


def typed(cluster: Cluster, kind: str, config: Config) -> dict[str, Any]:
    """A configuration as JSON: booleans and integers as numbers, everything else as text."""
    known = cluster.schema.endpoint("PUT", f"/nodes/{{node}}/{kind}/{{vmid}}/config").parameters
    values: dict[str, Any] = {}
    for key, value in config.items():
        number = key in ("snaptime", "template") or known.get(key, {}).get("type") in ("integer", "boolean")
        values[key] = int(value) if number and value.lstrip("-").isdigit() else value
    if "cipassword" in values:
        values["cipassword"] = MASK
    return values


def choose(guest: Guest, params: dict[str, Any]) -> Config:
    """The configuration that a GET asks for (AbstractConfig.pm, load_config and load_snapshot_config)."""
    snapshot = params.get("snapshot")
    if snapshot:
        if snapshot not in guest.snapshots:
            raise die(f"snapshot '{snapshot}' does not exist")
        return guest.snapshots[snapshot]
    return guest.config if params.get("current") else guest.effective()


def get(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/qemu/{vmid}/config."""
    guest = call.cluster.guest("qemu", call.node, call.vmid)
    if call.params.get("snapshot") and call.params.get("current"):
        from .http import bad_parameter

        raise bad_parameter(snapshot="cannot use 'snapshot' parameter with 'current'")
    row = typed(call.cluster, "qemu", choose(guest, call.params))
    row["digest"] = guest.digest()
    return row


ROUTES = {("GET", "/nodes/{node}/qemu/{vmid}/config"): get}
