"""Reading request bodies: bounded in size, strict in form."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from control_plane.api.problems import loads_strictly
from control_plane.problems import Refusal
from control_plane.settings import settings
from control_plane.storable import holds_nul, mended

MIB = 2**20
REPORT_BYTES = 64 * MIB


async def _read(request: Request, most: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise Refusal(413, "body_too_large", f"The body is larger than {most} bytes.", hint="Send less at once.")
        chunks.append(chunk)
    return b"".join(chunks)


class StrictRequest(Request):
    """A request whose JSON body has a limit and holds nothing that the database could not keep."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            self._body = await _read(self, settings().max_body_bytes)
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            if holds_nul(body):
                raise Refusal(422, "nul_character", "The body holds a NUL character (\\u0000).", field="body")
            self._json = loads_strictly(body)
        return self._json


class ReportRequest(Request):
    """What a worker says is never refused for a character that an engine happened to print."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            self._body = mended(await _read(self, REPORT_BYTES))
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = loads_strictly(await self.body())
        return self._json


class PartRequest(Request):
    """A part may be large: it is read piece by piece, by who takes it, not here."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            self._body = await _read(self, REPORT_BYTES)
        return self._body

    async def json(self) -> Any:
        return await self.body()


class StrictRoute(APIRoute):
    request_class: type[Request] = StrictRequest

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(self.request_class(request.scope, request.receive))

        return strict


class ReportRoute(StrictRoute):
    request_class = ReportRequest


class PartRoute(StrictRoute):
    request_class = PartRequest
