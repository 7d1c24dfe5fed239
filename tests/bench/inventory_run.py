# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ansible-inventory`, as it is (ours), without the memo of expressions (plain), or writing what the floor needs (export)."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import ansible.cli
import ansible.cli.inventory as command

# Ansible gives every host these by itself.
OWN = ("inventory_file", "inventory_dir")


def without_memo() -> None:
    """Have expressions evaluated by Ansible's own templar each time."""
    load = ansible.cli.init_plugin_loader

    def load_and_patch(*arguments: Any) -> None:
        load(*arguments)
        memo = importlib.import_module("ansible_collections.keel.proxmox.plugins.plugin_utils.memo")
        memo.MemoTemplar = lambda templar: templar

    ansible.cli.init_plugin_loader = load_and_patch


def export(path: Path) -> None:
    """Write hosts, variables and groups to the file instead of printing them."""

    def write(cli: Any, _top: Any) -> dict[str, Any]:
        inventory = cli.inventory
        hosts = {
            name: {key: value for key, value in host.vars.items() if key not in OWN}
            for name, host in inventory.hosts.items()
        }
        groups = {
            name: ([host.name for host in group.hosts], [child.name for child in group.child_groups])
            for name, group in inventory.groups.items()
            if name not in ("all", "ungrouped")
        }
        path.write_bytes(pickle.dumps((hosts, groups)))
        return {}

    command.InventoryCLI.json_inventory = write


def main() -> None:
    """Run: kind, file for export or -, then the arguments of ansible-inventory."""
    kind, file, *arguments = sys.argv[1:]
    if kind == "plain":
        without_memo()
    elif kind == "export":
        export(Path(file))
    command.main(["ansible-inventory", *arguments])


if __name__ == "__main__":
    main()
