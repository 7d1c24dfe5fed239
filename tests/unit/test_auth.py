"""Credentials: which options make which, and how a ticket is got and renewed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.auth import Password, Token, credentials, unused
from ansible_collections.keel.proxmox.plugins.module_utils.errors import ProxmoxError
from ansible_collections.keel.proxmox.plugins.module_utils.transport import Answer, Endpoint

from .fakes import FakeClock


class Login:
    """The server's side of /access/ticket."""

    def __init__(self, otp: str | None = None) -> None:
        self.otp = otp
        self.asked: list[dict[str, object]] = []

    def __call__(self, method: str, path: str, params: Mapping[str, object], headers: Mapping[str, str]) -> Answer:
        assert (method, path) == ("POST", "/access/ticket")
        self.asked.append(dict(params))
        if params["password"] not in ("secret", f"totp:{self.otp}") and not str(params["password"]).startswith("PVE:"):
            return Answer(401, None, "authentication failure", None, None)
        ticket = f"PVE:root@pam:{len(self.asked)}"
        if self.otp is not None and "tfa-challenge" not in params and params["password"] == "secret":
            return Answer(200, {"ticket": "PVE:!tfa!", "NeedTFA": 1}, "OK", None, None)
        return Answer(200, {"ticket": ticket, "CSRFPreventionToken": "csrf"}, "OK", None, None)


def make(**options: str | None) -> Token | Password:
    names = ("user", "password", "otp", "token_id", "token_secret")
    return credentials(*(options.get(name) for name in names), FakeClock())


@pytest.mark.parametrize(
    "options",
    [
        {"user": "ansible@pve", "token_id": "ci", "token_secret": "s"},
        {"token_id": "ansible@pve!ci", "token_secret": "s"},
        {"user": "other@pve", "password": "p", "token_id": "ansible@pve!ci", "token_secret": "s"},
    ],
)
def test_tokens(options: dict[str, str]) -> None:
    assert make(**options).headers("POST", Login()) == {"Authorization": "PVEAPIToken=ansible@pve!ci=s"}


BOTH = {"api_password": "p", "api_token_id": "ansible@pve!ci", "api_token_secret": "s"}


@pytest.mark.parametrize(
    ("options", "environment", "told"),
    [
        (BOTH, {}, True),
        (BOTH, {"PROXMOX_TOKEN_SECRET": "s", "PROXMOX_PASSWORD": "another"}, True),
        # Nobody has named either in the task.
        (BOTH, {"PROXMOX_PASSWORD": "p"}, False),
        ({**BOTH, "api_token_id": "", "api_token_secret": ""}, {}, False),
        ({**BOTH, "api_password": None}, {}, False),
    ],
)
def test_a_password_that_is_not_used_is_told(options: dict[str, str], environment: dict[str, str], told: bool) -> None:
    assert [text.partition(",")[0] for text in unused(options, environment)] == ["api_password is not used"] * told


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "No credentials"),
        ({"token_id": "ci", "user": "a@pve"}, "belong together"),
        ({"token_id": "ci", "token_secret": "s"}, "needs api_user"),
        ({"user": "root", "password": "p"}, "'root' has no realm"),
        ({"password": "p"}, "needs api_user"),
    ],
)
def test_options_that_are_not_enough(options: dict[str, str], text: str) -> None:
    with pytest.raises(ProxmoxError, match=text):
        make(**options)


def test_a_ticket_is_got_once_and_renewed_by_itself() -> None:
    clock, login = FakeClock(), Login()
    auth = Password("root@pam", "secret", None, clock)
    assert auth.headers("GET", login) == {"Cookie": "PVEAuthCookie=PVE%3Aroot%40pam%3A1"}
    assert auth.headers("POST", login)["CSRFPreventionToken"] == "csrf"
    assert len(login.asked) == 1
    clock.sleep(3700)
    auth.headers("GET", login)
    assert login.asked[1] == {"username": "root@pam", "password": "PVE:root@pam:1"}


def test_a_second_factor_is_given_in_a_second_call() -> None:
    login = Login(otp="123456")
    Password("root@pam", "secret", "123456", FakeClock()).headers("GET", login)
    assert login.asked[1] == {"username": "root@pam", "password": "totp:123456", "tfa-challenge": "PVE:!tfa!"}
    with pytest.raises(ProxmoxError, match="api_otp"):
        Password("root@pam", "secret", None, FakeClock()).headers("GET", Login(otp="123456"))


def test_a_refused_password_is_tried_once() -> None:
    login = Login()
    with pytest.raises(ProxmoxError, match="refused the password or second factor of root@pam") as caught:
        Password("root@pam", "wrong", None, FakeClock()).headers("GET", login)
    assert len(login.asked) == 1
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("pve1", "https://pve1:8006/api2/json"),
        ("pve1:443", "https://pve1:443/api2/json"),
        ("https://pve1/", "https://pve1:8006/api2/json"),
        ("10.0.0.1", "https://10.0.0.1:8006/api2/json"),
        ("fd00::1", "https://[fd00::1]:8006/api2/json"),
        ("[fd00::1]:443", "https://[fd00::1]:443/api2/json"),
    ],
)
def test_hosts(host: str, url: str) -> None:
    assert Endpoint((host,)).urls() == [url]


def test_threads_that_need_a_ticket_at_once_share_one_login() -> None:
    """A second factor serves once."""
    auth, login, together = make(user="root@pam", password="secret", otp="123456"), Login("123456"), Barrier(8)

    def slow(method: str, path: str, params: Mapping[str, object], headers: Mapping[str, str]) -> Answer:
        time.sleep(0.01)
        return login(method, path, params, headers)

    def ask(_number: int) -> dict[str, str]:
        together.wait(5)
        return auth.headers("POST", slow)

    with ThreadPoolExecutor(8) as pool:
        headers = list(pool.map(ask, range(8)))
    assert len(login.asked) == 2, "the password, and the second factor"
    assert len({one["Cookie"] for one in headers}) == 1


def test_a_ticket_that_another_thread_has_renewed_is_not_forgotten() -> None:
    auth, login = make(user="root@pam", password="secret"), Login()
    old = auth.headers("GET", login)
    assert auth.renew(old)
    new = auth.headers("GET", login)
    assert new != old
    assert auth.renew(old), "it can be sent again, with the new one"
    assert auth.headers("GET", login) == new
    assert len(login.asked) == 2
