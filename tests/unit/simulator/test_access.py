"""Access control, beyond what the recordings show."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.simulator.access import Access, Pool, totp
from tests.simulator.engine.http import ApiError

NOW = 1_795_190_000.0


@pytest.fixture
def access() -> Access:
    return Access()


def text_of(error: pytest.ExceptionInfo[ApiError]) -> str:
    return f"{error.value.status} {error.value.text}"


def test_nearer_entries_replace_those_above(access: Access) -> None:
    access.add_user("a@pve")
    access.set_acl("/vms", "a@pve", "PVEVMAdmin")
    access.set_acl("/vms/100", "a@pve", "PVEAuditor")
    assert access.allowed("a@pve", "/vms/101", ["VM.Config.Disk"])
    assert not access.allowed("a@pve", "/vms/100", ["VM.Config.Disk"])


def test_what_does_not_propagate_stays(access: Access) -> None:
    access.add_user("a@pve")
    access.set_acl("/vms", "a@pve", "PVEVMAdmin", propagate=False)
    assert access.allowed("a@pve", "/vms", ["VM.Allocate"])
    assert not access.allowed("a@pve", "/vms/100", ["VM.Allocate"])


def test_groups_and_users(access: Access) -> None:
    access.add_user("a@pve", groups=["staff"])
    access.set_acl("/", "@staff", "PVEAuditor")
    access.set_acl("/vms/100", "@staff", "PVEVMAdmin")
    assert access.allowed("a@pve", "/vms/100", ["VM.Allocate"])
    access.set_acl("/vms/100", "a@pve", "NoAccess")
    assert access.permissions("a@pve", "/vms/100") == {}


def test_pools_reach_their_members(access: Access) -> None:
    access.add_user("a@pve")
    access.pools["p"] = Pool(guests={100}, storages={"local"})
    access.set_acl("/pool/p", "a@pve", "PVEAdmin")
    assert access.allowed("a@pve", "/vms/100", ["VM.PowerMgmt"])
    assert access.allowed("a@pve", "/storage/local", ["Datastore.AllocateSpace"])
    assert not access.allowed("a@pve", "/vms/101", ["VM.PowerMgmt"])


def test_a_token_with_privilege_separation_has_what_both_have(access: Access) -> None:
    access.add_user("a@pve")
    access.add_token("a@pve", "t")
    access.set_acl("/vms", "a@pve", "PVEVMUser")
    assert access.permissions("a@pve!t", "/vms/100") == {}
    access.set_acl("/vms", "a@pve!t", "PVEVMAdmin")
    found = access.permissions("a@pve!t", "/vms/100")
    assert "VM.PowerMgmt" in found
    assert "VM.Allocate" not in found


def test_a_token_without_it_has_what_its_user_has(access: Access) -> None:
    access.add_token("root@pam", "t", privsep=False)
    assert access.allowed("root@pam!t", "/anything", ["Realm.Allocate"])


def test_expressions(access: Access) -> None:
    access.add_user("a@pve")
    access.set_acl("/vms/100", "a@pve", "PVETemplateUser")
    rule = {
        "check": [
            "and",
            ["perm", "/vms/{vmid}", ["VM.Clone"]],
            [
                "or",
                ["perm", "/vms/{newid}", ["VM.Allocate"]],
                ["perm", "/pool/{pool}", ["VM.Allocate"], "require_param", "pool"],
            ],
        ]
    }
    with pytest.raises(ApiError) as error:
        access.check_endpoint("a@pve", rule, {"vmid": "101", "newid": "200"})
    assert text_of(error) == "403 Permission check failed (/vms/101, VM.Clone)"
    with pytest.raises(ApiError) as error:
        access.check_endpoint("a@pve", rule, {"vmid": "100", "newid": "200", "pool": "p"})
    assert text_of(error) == "403 Permission check failed"
    access.pools["p"] = Pool()
    access.set_acl("/pool/p", "a@pve", "PVEVMAdmin")
    access.check_endpoint("a@pve", rule, {"vmid": "100", "newid": "200", "pool": "p"})


def test_any_of_several(access: Access) -> None:
    access.add_user("a@pve")
    rule = {"check": ["perm", "/vms/{vmid}", ["VM.Config.Disk", "VM.Config.CPU"], "any", 1]}
    with pytest.raises(ApiError) as error:
        access.check_endpoint("a@pve", rule, {"vmid": "100"})
    assert text_of(error) == "403 Permission check failed (/vms/100, VM.Config.Disk|VM.Config.CPU)"


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("cores", "403 Permission check failed (/vms/100, VM.Config.CPU)"),
        ("description", "403 Permission check failed (/vms/100, VM.Config.Options)"),
        ("ipconfig0", "403 Permission check failed (/vms/100, VM.Config.Cloudinit|VM.Config.Network)"),
        ("args", "500 only root can set 'args' config"),
        ("lock", "500 only root can set 'lock' config"),
    ],
)
def test_options_of_a_vm(access: Access, option: str, text: str) -> None:
    access.add_user("a@pve")
    with pytest.raises(ApiError) as error:
        access.check_vm_options("a@pve", 100, None, [option])
    assert text_of(error) == text


def test_a_token_of_root_is_not_root(access: Access) -> None:
    access.add_token("root@pam", "t", privsep=False)
    with pytest.raises(ApiError) as error:
        access.check_vm_options("root@pam!t", 100, None, ["args"])
    assert text_of(error) == "500 only root can set 'args' config"
    with pytest.raises(ApiError) as error:
        access.check_root_only("root@pam!t", {"skiplock": 1}, ["skiplock"])
    assert error.value.errors == {"skiplock": "Only root may use this option."}


def _cookie(ticket: str) -> dict[str, str | None]:
    return {"cookie": f"PVEAuthCookie={quote(ticket, safe='')}"}


def test_a_ticket_lasts_two_hours_and_renews_itself(access: Access) -> None:
    first = access.create_ticket({"username": "root@pam", "password": "labpass"}, NOW)
    assert access.authenticate("GET", "/nodes", _cookie(first["ticket"]), NOW + 7000).user == "root@pam"
    with pytest.raises(ApiError) as error:
        access.authenticate("GET", "/nodes", _cookie(first["ticket"]), NOW + 7201)
    assert text_of(error) == "401 Authentication failed!"
    assert error.value.seconds == 3.0
    second = access.create_ticket({"username": "root@pam", "password": first["ticket"]}, NOW + 7000)
    assert access.authenticate("GET", "/nodes", _cookie(second["ticket"]), NOW + 14000).user == "root@pam"


def test_a_second_factor(access: Access) -> None:
    secret = "JBSWY3DPEHPK3PXP"
    access.add_user("a@pve", "secret", totp_secret=secret)
    half = access.create_ticket({"username": "a@pve", "password": "secret"}, NOW)
    assert half["NeedTFA"] == 1
    with pytest.raises(ApiError) as error:
        access.authenticate("GET", "/nodes", _cookie(half["ticket"]), NOW)
    assert text_of(error) == "401 No ticket"
    answer = {"username": "a@pve", "password": f"totp:{totp(secret, NOW)}", "tfa-challenge": half["ticket"]}
    whole = access.create_ticket(answer, NOW)
    assert access.authenticate("GET", "/nodes", _cookie(whole["ticket"]), NOW).user == "a@pve"
    at_once = {"username": "a@pve", "password": "secret", "otp": f"totp:{totp(secret, NOW)}"}
    assert "NeedTFA" not in access.create_ticket(at_once, NOW)
    with pytest.raises(ApiError):
        access.create_ticket({**answer, "password": "totp:000000"}, NOW)


def test_the_codes_are_those_of_rfc_6238() -> None:
    assert totp("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", 59, digits=8) == "94287082"


def test_disabled_and_expired(access: Access) -> None:
    user = access.add_user("a@pve", "secret")
    access.add_token("a@pve", "t", secret="x", expire=int(NOW) - 1)
    header: dict[str, str | None] = {"authorization": "PVEAPIToken=a@pve!t=x"}
    with pytest.raises(ApiError) as error:
        access.authenticate("GET", "/nodes", header, NOW)
    assert text_of(error) == "401 Authentication failed!"
    user.enabled = False
    with pytest.raises(ApiError) as error:
        access.create_ticket({"username": "a@pve", "password": "secret"}, NOW)
    assert text_of(error) == "401 authentication failure"
