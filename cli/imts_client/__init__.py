"""A typed client of the IMTS platform, blocking (`Client`) and for asyncio (`AsyncClient`)."""

import importlib
from typing import TYPE_CHECKING, Any

from imts_client.errors import (
    ApiProblem,
    Conflict,
    ConnectionFailed,
    Forbidden,
    ImtsError,
    InvalidRequest,
    NotConfigured,
    NotFound,
    ServerFault,
    TooManyRequests,
    Unauthorized,
    UnexpectedAnswer,
    WaitTimeout,
)

if TYPE_CHECKING:
    from imts_client.awaiting.client import AsyncClient
    from imts_client.blocking.client import Client

__all__ = [
    "ApiProblem",
    "AsyncClient",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Forbidden",
    "ImtsError",
    "InvalidRequest",
    "NotConfigured",
    "NotFound",
    "ServerFault",
    "TooManyRequests",
    "Unauthorized",
    "UnexpectedAnswer",
    "WaitTimeout",
]

_LATE = {"Client": "imts_client.blocking.client", "AsyncClient": "imts_client.awaiting.client"}


def __getattr__(name: str) -> Any:
    """The clients load every contract; whoever only needs a part (the command, say) does not wait for them."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
