# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the Ansible community's collections; what they do is in antsibull-nox.toml."""

from __future__ import annotations

import antsibull_nox

antsibull_nox.load_antsibull_nox_toml()
