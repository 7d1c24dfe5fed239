# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How to reach a cluster, for modules."""

    DOCUMENTATION = r"""
options:
  api_host:
    description:
      - Nodes of the cluster, by name or address, each perhaps with a port of its own as in V(pve1.example.com:443).
      - The first that can be reached is used, whatever node the guest is on. Whether one is reached shows within 5 seconds, and
        each task of a play begins with the first.
      - Left out, E(PROXMOX_HOST) is used, where several are separated by commas.
    type: list
    elements: str
  api_port:
    description: TCP port of the API, for hosts that name none. Left out, E(PROXMOX_PORT) is used.
    type: int
    default: 8006
  api_user:
    description:
      - User with its realm, V(root@pam) or V(ansible@pve).
      - Needed with O(api_password), and with an O(api_token_id) that does not name the user itself.
      - Left out, E(PROXMOX_USER) is used.
    type: str
  api_password:
    description:
      - Password of O(api_user). An API token is better; without one, the password is exchanged for a ticket.
      - Not used where O(api_token_id) and O(api_token_secret) are given, also by the environment.
      - Left out, E(PROXMOX_PASSWORD) is used.
    type: str
  api_otp:
    description:
      - Current code of the user's authenticator (TOTP), for users with a second factor who log in with O(api_password).
      - Every task of a play logs in by itself, and a code may not be taken twice. Use an API token for more than one task.
      - Left out, E(PROXMOX_OTP) is used.
    type: str
  api_token_id:
    description:
      - API token, as V(user@realm!name) or as the bare name beside O(api_user).
      - Left out, E(PROXMOX_TOKEN_ID) is used.
    type: str
  api_token_secret:
    description: Secret of O(api_token_id). Left out, E(PROXMOX_TOKEN_SECRET) is used.
    type: str
  api_fingerprint:
    description:
      - SHA-256 fingerprint of the server's certificate, as the web interface shows it under a node's certificates.
      - If given, exactly this certificate is accepted, and nothing else about it is checked.
      - Left out, E(PROXMOX_FINGERPRINT) is used.
    type: str
  ca_path:
    description:
      - File or directory of the certificate authorities (PEM) that may have signed the server's certificate.
      - On a node, the cluster's own authority is C(/etc/pve/pve-root-ca.pem).
      - Left out, E(PROXMOX_CA_PATH) is used, and without that the authorities that the system trusts.
    type: path
  validate_certs:
    description:
      - Whether the server's certificate must be valid. Without it, anybody on the way can read the credentials;
        prefer O(ca_path) or O(api_fingerprint).
      - Left out, E(PROXMOX_VALIDATE_CERTS) is used.
    type: bool
    default: true
  api_timeout:
    description:
      - Seconds that the server may be silent in one request. The server itself gives up after 30 seconds, so less than that
        hides its answer.
      - Left out, E(PROXMOX_API_TIMEOUT) is used.
    type: float
    default: 35
requirements:
  - requests
"""
