# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reach what runs inside a guest: ask its agent, tell its addresses, and say what to wait for until it answers.

A question to an agent that does not answer holds one of its node's three workers for three seconds
(PVE/QemuServer/Agent.pm, qga_check_running), so it is asked again after five.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import hosts
from .errors import ProxmoxError, Refused
from .guests import Guest
from .phrases import agent_is_silent
from .plan import Reader

AGENT_PAUSE = 5.0

# What the option wait_for can be.
NOTHING, AGENT, ADDRESS = WAIT_FOR = ("none", "agent", "ip")

# option -> what a network that it names is.
NETWORKS = ("preferred_networks", "refused_networks")


@dataclass(frozen=True)
class Reached:
    """What a running guest tells.

    :param silent: why nobody answers; None where somebody does. Containers always do, for their node answers in their place.
    :param refusal: why an agent that answers does not tell the addresses.
    :param interfaces: as the agent or the node tells them.
    :param addresses: those that others can use, the best one first.
    """

    silent: str | None = None
    refusal: str | None = None
    interfaces: tuple[Mapping[str, Any], ...] = ()
    addresses: tuple[str, ...] = ()

    @property
    def ip(self) -> str | None:
        return self.addresses[0] if self.addresses else None


def networks(options: Mapping[str, Any]) -> hosts.Networks:
    """Return which addresses module options like; raises Refused for what is no network."""
    preferred, refused = (hosts.networks(name, options.get(name)) for name in NETWORKS)
    return hosts.Networks(preferred, refused)


def config_in_force(reader: Reader, guest: Guest, *, restarting: bool = False) -> Mapping[str, Any]:
    """Return the configuration that a guest runs with, or will run with once it is started; one request.

    :param restarting: it will be restarted, which applies what is pending.
    """
    current = {"current": True} if guest.status == "running" and not restarting else {}
    config: Mapping[str, Any] = reader.get(f"{guest.path}/config", **current)
    return config


def check_enabled(guest: Guest, config: Mapping[str, Any]) -> None:
    """Refuse to wait for an agent that nobody would ask."""
    if guest.kind == "qemu" and not hosts.agent_is_enabled(config):
        raise Refused(
            f"{guest} has no guest agent: it is not enabled in the configuration that it runs with. Set its option agent, see that "
            "qemu-guest-agent runs in the guest, and restart it with state=restarted, which applies the change."
        )


def ask(reader: Reader, guest: Guest, question: str, **query: object) -> Any:
    """Return what GET of that question answers, ``result`` taken out of it.

    :raises Silence: no agent answers at the moment.
    :raises ProxmoxError: everything else; the agent's own refusal as Refused.
    """
    try:
        answer = reader.get(f"{guest.path}/agent/{question}", **query)
    except ProxmoxError as error:
        if error.status == 500 and agent_is_silent(error.message):
            raise Silence(error.message, status=error.status, request=error.request) from error
        raise
    told = answer.get("result", answer)
    check_answer(guest, told)
    return told


def check_answer(guest: Guest, told: object) -> None:
    """Raise Refused for an answer that is an error of the agent (PVE/QMPClient.pm, cmd)."""
    if isinstance(told, Mapping) and isinstance(told.get("error"), Mapping):
        raise Refused(f"The guest agent of {guest} refused: {told['error'].get('desc') or 'it did not say why'}.")


class Silence(ProxmoxError):
    """The agent does not answer at the moment."""


def reach(reader: Reader, guest: Guest, config: Mapping[str, Any], liked: hosts.Networks) -> Reached:
    """Ask a running guest for its addresses; one request.

    :param config: by its network cards, its own addresses are told from those of bridges inside it.
    """
    refusal = None
    if guest.kind == "qemu":
        try:
            told = ask(reader, guest, "network-get-interfaces")
        except Silence as error:
            return Reached(silent=error.message)
        except Refused as error:
            refusal, told = error.message, []
        source, subset = "agent", "agent"
    else:
        told = reader.get(f"{guest.path}/interfaces") or []
        source, subset = "lxc_interfaces", "interfaces"
    row, facts = {"type": guest.kind, "vmid": guest.vmid}, {"config": config, subset: told}
    return Reached(None, refusal, tuple(told), tuple(hosts.addresses(row, facts, source, liked)))


def missing(guest: Guest, reached: Reached | None, wait_for: str) -> tuple[str | None, float]:
    """Return what to wait for until the guest is reached as wanted, None where it is, and seconds until the next look.

    :raises Refused: the agent never tells addresses.
    """
    if wait_for == NOTHING or (guest.kind == "lxc" and wait_for == AGENT):
        return None, 0.0
    if reached is None or reached.silent is not None:
        return f"the guest agent of {guest} to answer", AGENT_PAUSE
    if wait_for == ADDRESS and not reached.addresses:
        if reached.refusal is not None:
            raise Refused(reached.refusal)
        return f"{guest} to have an IP address", AGENT_PAUSE if guest.kind == "qemu" else 0.0
    return None, 0.0
