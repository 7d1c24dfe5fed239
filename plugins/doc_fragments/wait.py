# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How long to wait."""

    DOCUMENTATION = r"""
options:
  wait:
    description:
      - Whether to wait until the server has done the work. A task that fails is reported when it fails, not after O(timeout).
      - With V(false), the last task of the server is started and not waited for; its UPID is in RV(ignore:tasks).
    type: bool
    default: true
  timeout:
    description:
      - Seconds after which the module gives up, everything together. What runs on the server then goes on; repeating the task
        goes on waiting.
    type: int
    default: 600
"""
