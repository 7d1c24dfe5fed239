# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ..modules import proxmox_disk
from ..plugin_utils.in_worker import InWorker


class ActionModule(InWorker):
    MODULE = proxmox_disk
