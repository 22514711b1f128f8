"""An attempt's two requests to the control plane, and what an answer, or none, means.

Over    the attempt has ended for the control plane: say nothing more
Away    nobody listens there, or says that it cannot answer
Silent  no answer: it may or may not have been heard
Unfit   the control plane does not take this request, and never will
"""

import errno
import threading
from collections.abc import Iterator

import httpx

from imts_shared.contracts.internal import ClaimAnswer, ClaimRequest, ReportAnswer


class Over(Exception):
    """Refused: the attempt's token is dead, or was never for this worker."""


class Away(Exception):
    """The control plane is not there."""


class Silent(Exception):
    """No answer came."""


class Unfit(Exception):
    """Refused for what the request says."""


_REFUSED = frozenset({401, 403, 404, 409, 410})
_GATEWAY_SILENCE = frozenset({408, 429, 502, 504})
_clients = threading.local()


def _client() -> httpx.Client:
    """One a thread, kept from attempt to attempt: its connection stays open."""
    found: httpx.Client | None = getattr(_clients, "client", None)
    if found is None:
        found = httpx.Client(limits=httpx.Limits(max_connections=2, keepalive_expiry=30), trust_env=False)
        _clients.client = found
    return found


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


class Wire:
    """Speaks for one attempt with its token."""

    def __init__(self, control_plane_url: str, job_id: str, token: str) -> None:
        self._url = f"{control_plane_url.rstrip('/')}/internal/jobs/{job_id}"
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def claim(self, request: ClaimRequest, timeout: float) -> ClaimAnswer:
        body = request.model_dump_json(by_alias=True).encode()
        return ClaimAnswer.model_validate_json(self._post("claim", body, timeout))

    def report(self, body: bytes, timeout: float) -> ReportAnswer:
        return ReportAnswer.model_validate_json(self._post("reports", body, timeout))

    def _post(self, what: str, body: bytes, timeout: float) -> bytes:
        try:
            answer = _client().post(f"{self._url}/{what}", content=body, headers=self._headers, timeout=timeout)
        except httpx.ConnectError as error:
            if any(isinstance(e, OSError) and e.errno == errno.ECONNREFUSED for e in _causes(error)):
                raise Away(str(error)) from error
            raise Silent(str(error)) from error
        except httpx.TransportError as error:
            raise Silent(f"{type(error).__name__}: {error}") from error
        if answer.is_success:
            return answer.content
        said = f"{answer.status_code} {answer.text[:500]}"
        if answer.status_code in _REFUSED:
            raise Over(said)
        if answer.status_code in _GATEWAY_SILENCE:
            raise Silent(said)
        if answer.is_server_error:
            raise Away(said)
        raise Unfit(said)
