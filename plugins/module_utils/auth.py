# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials: an API token, or a password that becomes a ticket."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from .clock import Clock
from .errors import ProxmoxError
from .shapes import TICKET, flaw
from .transport import Answer, failure

# A ticket lives two hours (PVE/AccessControl.pm); half of that leaves room for tasks that wait long.
RENEW_SECONDS = 3600.0

LOGIN = "/access/ticket"

_HEADER = re.compile(r"[!-~]+")

Send = Callable[[str, str, Mapping[str, object], Mapping[str, str]], Answer]


@dataclass(frozen=True)
class Token:
    """An API token. :param name: user@realm!tokenid. :param secret: its UUID."""

    name: str
    secret: str = field(repr=False)

    def headers(self, method: str, send: Send) -> dict[str, str]:
        return {"Authorization": f"PVEAPIToken={self.name}={self.secret}"}

    def renew(self, refused: Mapping[str, str]) -> bool:
        """A token that is refused stays refused."""
        return False

    def __str__(self) -> str:
        return f"API token {self.name}"


class Password:
    """A user's password, changed for a ticket with the first request and renewed by the ticket itself.

    Of threads that need a ticket at the same time one logs in: a second factor serves once.
    """

    def __init__(self, user: str, password: str, otp: str | None, clock: Clock) -> None:
        self._user = user
        self._password = password
        self._otp = otp
        self._clock = clock
        self._ticket: str | None = None
        self._csrf = ""
        self._since = 0.0
        self._turn = threading.Lock()

    def headers(self, method: str, send: Send) -> dict[str, str]:
        """Return the headers of a request, with a ticket that is young enough; raises ProxmoxError where the login fails."""
        with self._turn:
            if self._ticket is None:
                self._login(send, self._password)
            elif self._clock.now() - self._since > RENEW_SECONDS:
                # The ticket serves as password, so no second factor is asked for again (PVE/API2/AccessControl.pm).
                self._login(send, self._ticket)
            headers = {"Cookie": self._cookie()}
            return headers if method == "GET" else {**headers, "CSRFPreventionToken": self._csrf}

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Forget the ticket of refused headers; False where they had none, so that a wrong password is tried once only."""
        with self._turn:
            if self._ticket is not None and refused.get("Cookie") == self._cookie():
                self._ticket = None
            return "Cookie" in refused

    def _cookie(self) -> str:
        return f"PVEAuthCookie={quote(self._ticket or '', safe='')}"

    def _login(self, send: Send, password: str) -> None:
        data = self._ask(send, {"username": self._user, "password": password})
        if data.get("NeedTFA"):
            if self._otp is None:
                raise ProxmoxError(
                    f"{self._user} needs a second factor; give the current code in api_otp, or use an API token."
                )
            data = self._ask(
                send,
                {"username": self._user, "password": f"totp:{self._otp}", "tfa-challenge": data["ticket"]},
            )
        self._ticket, self._csrf, self._since = data["ticket"], data.get("CSRFPreventionToken", ""), self._clock.now()

    def _ask(self, send: Send, params: Mapping[str, object]) -> Mapping[str, str]:
        answer = send("POST", LOGIN, params, {})
        if answer.status == 401:
            raise ProxmoxError(
                f"The server refused the password or second factor of {self._user} (401 {answer.text}).",
                status=401,
                request=f"POST {LOGIN}",
            )
        if answer.status >= 400:
            raise failure(answer, f"POST {LOGIN}")
        wrong = flaw(TICKET, answer.data)
        if wrong is not None:
            raise ProxmoxError(
                f"POST {LOGIN}: the answer is not that of a Proxmox VE server: {wrong}.", request=f"POST {LOGIN}"
            )
        ticket: Mapping[str, str] = answer.data
        return ticket

    def __str__(self) -> str:
        return f"user {self._user}"


def credentials(
    user: str | None,
    password: str | None,
    otp: str | None,
    token_id: str | None,
    token_secret: str | None,
    clock: Clock,
) -> Token | Password:
    """Return the credentials that the options give; a token is preferred. Raises ProxmoxError where they are not enough."""
    if token_id and token_secret:
        if "!" in token_id:
            return _token(token_id, token_secret)
        if not user:
            raise ProxmoxError(
                f"api_token_id '{token_id}' needs api_user beside it, or the full form user@realm!{token_id}."
            )
        return _token(f"{_with_realm(user)}!{token_id}", token_secret)
    if token_id or token_secret:
        raise ProxmoxError("api_token_id and api_token_secret belong together; one of them is missing.")
    if not password:
        raise ProxmoxError(
            "No credentials: give api_token_id and api_token_secret (preferred), or api_user and api_password."
        )
    if not user:
        raise ProxmoxError("api_password needs api_user beside it, with its realm: root@pam.")
    return Password(_with_realm(user), password, otp, clock)


def unused(options: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return warnings of what the task itself names and `credentials` passes over; a token often comes from the environment."""
    password = options.get("api_password")
    if not password or password == environment.get("PROXMOX_PASSWORD"):
        return ()
    if not (options.get("api_token_id") and options.get("api_token_secret")):
        return ()
    return (
        "api_password is not used, for an API token is given (api_token_id or PROXMOX_TOKEN_ID). To log in with the password, set "
        "api_token_id and api_token_secret to empty texts.",
    )


def _token(name: str, secret: str) -> Token:
    """Return the token; both parts go into a header, and the usual fault is the last line break of a file."""
    for option, value in {"api_token_id": name, "api_token_secret": secret}.items():
        if not _HEADER.fullmatch(value):
            raise ProxmoxError(f"{option} holds a blank, a line break or another character that it cannot have.")
    return Token(name, secret)


def _with_realm(user: str) -> str:
    if "@" not in user:
        raise ProxmoxError(f"api_user '{user}' has no realm; write {user}@pam, {user}@pve or the realm that it is in.")
    return user
