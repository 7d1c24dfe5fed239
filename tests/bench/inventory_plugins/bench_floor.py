# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor of an inventory: hosts, groups and variables that are known already, handed to Ansible and nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
name: bench_floor
short_description: Hosts, groups and variables from a pickle
description: Adds what the pickle holds by the cheapest calls that Ansible has.
options:
  plugin: {description: Must be V(bench_floor)., type: str, required: true}
  pickle: {description: File with the hosts' variables and the groups' hosts and groups., type: str, required: true}
"""

import pickle
from pathlib import Path
from typing import Any

from ansible.plugins.inventory import BaseInventoryPlugin


class InventoryModule(BaseInventoryPlugin):
    """Add what the pickle holds."""

    NAME = "bench_floor"

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory."""
        super().parse(inventory, loader, path)
        self._read_config_data(path)
        hosts, groups = pickle.loads(Path(self.get_option("pickle")).read_bytes())
        for group in groups:
            inventory.add_group(group)
        for group, (_members, children) in groups.items():
            for child in children:
                inventory.add_child(group, child)
        for name, variables in hosts.items():
            inventory.add_host(name)
            inventory.get_host(name).vars.update(variables)
        for group, (members, _children) in groups.items():
            for name in members:
                inventory.add_child(group, name)
