"""Encrypting tokens: AES-256-GCM under a key derived from the platform's secret key.

A sealed value is bound to its project and name, so that a row copied to another place does not open there.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from control_plane.settings import ControlPlaneSettings

_NONCE_BYTES = 12


class Unreadable(Exception):
    """The secret keys at hand do not open it."""


@dataclass(frozen=True)
class Sealed:
    key_id: str
    content: bytes


def _derived(secret_key: str, purpose: str, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=f"imts {purpose} v1".encode()).derive(secret_key.encode())


class Sealer:
    """Seals with the newest secret key and opens with that one and the old ones."""

    def __init__(self, secret_key: str, old_secret_keys: Sequence[str] = ()) -> None:
        self._keys: dict[str, AESGCM] = {}
        for secret in (secret_key, *old_secret_keys):
            self._keys.setdefault(_derived(secret, "token key id", 8).hex(), AESGCM(_derived(secret, "tokens", 32)))
        self.key_id = next(iter(self._keys))

    @classmethod
    def of(cls, settings: ControlPlaneSettings) -> "Sealer":
        old = [key.get_secret_value() for key in settings.old_secret_keys]
        return cls(settings.secret_key.get_secret_value(), old)

    def seal(self, value: str, *place: str) -> Sealed:
        nonce = os.urandom(_NONCE_BYTES)
        return Sealed(self.key_id, nonce + self._keys[self.key_id].encrypt(nonce, value.encode(), _bound_to(place)))

    def open(self, sealed: Sealed, *place: str) -> str:
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise Unreadable
        nonce, content = sealed.content[:_NONCE_BYTES], sealed.content[_NONCE_BYTES:]
        try:
            return key.decrypt(nonce, content, _bound_to(place)).decode()
        except (InvalidTag, ValueError):
            raise Unreadable from None


def _bound_to(place: tuple[str, ...]) -> bytes:
    return "\0".join(place).encode()
