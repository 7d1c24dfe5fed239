# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What Ansible features the modules support, and what all of them return."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return what would be done; no writing request leaves the process.
  diff_mode:
    support: full
    description: Returns the state before and after, in check mode the state that is foretold.
  action_group:
    support: full
    description: Use C(group/keel.proxmox.proxmox) in C(module_defaults) to set defaults for all modules of this collection.
    membership:
      - keel.proxmox.proxmox
"""
