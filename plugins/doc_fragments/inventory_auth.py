# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How to reach a cluster, for the inventory: the same options as the modules have."""

    DOCUMENTATION = r"""
options:
  api_host:
    description:
      - Nodes of the cluster, by name or address, each perhaps with a port of its own as in V(pve1.example.com:443); one, or a list.
      - The first that can be reached is used. URLs are understood too; whatever they say, the API is spoken to by HTTPS.
      - Left out, E(PROXMOX_HOST) is used, where several are separated by commas, and without that E(PROXMOX_URL).
      - May be a template.
    type: raw
    aliases: [url]
    env:
      - name: PROXMOX_URL
      - name: PROXMOX_HOST
    ini:
      - section: proxmox
        key: api_host
  api_port:
    description:
      - TCP port of the API, for hosts that name none.
    type: int
    default: 8006
    env:
      - name: PROXMOX_PORT
    ini:
      - section: proxmox
        key: api_port
  api_user:
    description:
      - User with its realm, V(root@pam) or V(ansible@pve).
      - Needed with O(api_password), and with an O(api_token_id) that does not name the user itself.
      - May be a template.
    type: str
    aliases: [user]
    env:
      - name: PROXMOX_USER
    ini:
      - section: proxmox
        key: api_user
  api_password:
    description:
      - Password of O(api_user). An API token is better; without one, the password is exchanged for a ticket.
      - Not used where O(api_token_id) and O(api_token_secret) are given, also by the environment.
      - May be a template.
    type: str
    aliases: [password]
    env:
      - name: PROXMOX_PASSWORD
    ini:
      - section: proxmox
        key: api_password
  api_otp:
    description:
      - Current code of the user's authenticator (TOTP), for users with a second factor who log in with O(api_password).
      - May be a template.
    type: str
    env:
      - name: PROXMOX_OTP
    ini:
      - section: proxmox
        key: api_otp
  api_token_id:
    description:
      - API token, as V(user@realm!name) or as the bare name beside O(api_user).
      - May be a template.
    type: str
    aliases: [token_id]
    env:
      - name: PROXMOX_TOKEN_ID
    ini:
      - section: proxmox
        key: api_token_id
  api_token_secret:
    description:
      - Secret of O(api_token_id).
      - May be a template.
    type: str
    aliases: [token_secret]
    env:
      - name: PROXMOX_TOKEN_SECRET
    ini:
      - section: proxmox
        key: api_token_secret
  api_fingerprint:
    description:
      - SHA-256 fingerprint of the server's certificate, as the web interface shows it under a node's certificates.
      - If given, exactly this certificate is accepted, and nothing else about it is checked.
      - May be a template.
    type: str
    env:
      - name: PROXMOX_FINGERPRINT
    ini:
      - section: proxmox
        key: api_fingerprint
  ca_path:
    description:
      - File or directory of the certificate authorities (PEM) that may have signed the server's certificate.
      - On a node, the cluster's own authority is C(/etc/pve/pve-root-ca.pem).
      - Left out, the authorities that the system trusts are asked.
    type: path
    env:
      - name: PROXMOX_CA_PATH
    ini:
      - section: proxmox
        key: ca_path
  validate_certs:
    description:
      - Whether the server's certificate must be valid. Without it, anybody on the way can read the credentials;
        prefer O(ca_path) or O(api_fingerprint).
    type: bool
    default: true
    env:
      - name: PROXMOX_VALIDATE_CERTS
    ini:
      - section: proxmox
        key: validate_certs
  api_timeout:
    description:
      - Seconds that the server may be silent in one request. The server itself gives up after 30 seconds, so less than that
        hides its answer.
    type: float
    default: 35
    env:
      - name: PROXMOX_API_TIMEOUT
    ini:
      - section: proxmox
        key: api_timeout
requirements:
  - requests
"""
