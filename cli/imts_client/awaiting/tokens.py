"""The tokens of a project: set, listed, deleted, never read."""

from collections.abc import AsyncIterator

from imts_client.awaiting.transport import AsyncTransport
from imts_client.calls import access
from imts_client.calls import tokens as calls
from imts_shared.contracts.tokens import Token


class AsyncTokens:
    """Of the project that is named, else of the key's own; an admin's key has the project `default`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def set(self, name: str, value: str, *, project: str | None = None) -> Token:
        """`name`: huggingface, modelscope or wandb, or reward:NAME."""
        return await self._transport.send(calls.set_token(await self._project(project), name, value))

    async def list(self, *, project: str | None = None) -> AsyncIterator[Token]:
        async for token in self._transport.every(calls.tokens(await self._project(project)), None):
            yield token

    async def delete(self, name: str, *, project: str | None = None) -> None:
        await self._transport.send(calls.delete_token(await self._project(project), name))

    async def _project(self, named: str | None) -> str:
        return named or (await self._transport.send(access.who_am_i())).project or "default"
