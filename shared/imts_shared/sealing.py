"""Secrets on their way between services, and on the disks of those: encrypted under the services' key.

The same secret at the same place is always sealed alike, so that a document that holds it changes only when it does.
"""

import base64
import binascii

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Unopened(Exception):
    """It was sealed under another key, or for another place."""


class ServiceSeal:
    def __init__(self, service_key: str) -> None:
        derived = HKDF(SHA256(), 64, salt=None, info=b"imts service seal v1").derive(service_key.encode())
        self._cipher = AESSIV(derived)

    def seal(self, value: str, place: str) -> str:
        return base64.b64encode(self._cipher.encrypt(value.encode(), [place.encode()])).decode()

    def open(self, sealed: str, place: str) -> str:
        try:
            return self._cipher.decrypt(base64.b64decode(sealed, validate=True), [place.encode()]).decode()
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise Unopened from error
