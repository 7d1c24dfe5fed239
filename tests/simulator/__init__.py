# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Proxmox VE 9.2 cluster in one process, for demos, tests and benchmarks. See docs and `python -m tests.simulator --help`."""

from __future__ import annotations

from .engine.clock import Clock, RealClock
from .engine.cluster import Cluster
from .engine.faults import Fault
from .engine.http import Request, Response
from .engine.model import Behaviour, Durations
from .server import Server, serve

__all__ = ["Behaviour", "Clock", "Cluster", "Durations", "Fault", "RealClock", "Request", "Response", "Server", "serve"]
