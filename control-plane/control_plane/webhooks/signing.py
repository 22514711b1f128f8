"""Signatures as the Standard Webhooks specification has them: HMAC-SHA256 over id, time and body.

A receiver splits the secret `whsec_<base64>`, decodes it, signs `<webhook-id>.<webhook-timestamp>.<body>` and compares
with what stands behind `v1,` in `webhook-signature`. A timestamp that is minutes old is a replay.
"""

import base64
import hashlib
import hmac
from uuid import UUID

PREFIX = "whsec_"


def secret_of(secret_key: str, webhook_id: UUID) -> bytes:
    """Derived, so that nothing has to be stored."""
    return hmac.digest(secret_key.encode(), f"webhook:{webhook_id}".encode(), hashlib.sha256)


def shown(secret: bytes) -> str:
    return PREFIX + base64.b64encode(secret).decode()


def headers(secret: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    content = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
        "content-type": "application/json",
        "user-agent": "imts-webhooks/1",
    }
