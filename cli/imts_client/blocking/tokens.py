"""The tokens of a project: set, listed, deleted, never read."""

from collections.abc import Iterator

from imts_client.blocking.transport import Transport
from imts_client.calls import access
from imts_client.calls import tokens as calls
from imts_shared.contracts.tokens import Token


class Tokens:
    """Of the project that is named, else of the key's own; an admin's key has the project `default`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def set(self, name: str, value: str, *, project: str | None = None) -> Token:
        """`name`: huggingface, modelscope or wandb, or reward:NAME."""
        return self._transport.send(calls.set_token(self._project(project), name, value))

    def list(self, *, project: str | None = None) -> Iterator[Token]:
        return self._transport.every(calls.tokens(self._project(project)), None)

    def delete(self, name: str, *, project: str | None = None) -> None:
        self._transport.send(calls.delete_token(self._project(project), name))

    def _project(self, named: str | None) -> str:
        return named or self._transport.send(access.who_am_i()).project or "default"
