"""The tokens of a project."""

from typing import TYPE_CHECKING

from imts_client.calls.call import Call, Listing, path

if TYPE_CHECKING:
    from imts_shared.contracts.tokens import Token


def set_token(project: str, name: str, value: str) -> "Call[Token]":
    place = path("projects", project, "tokens", name)
    return Call("PUT", place, "tokens.Token", json={"value": value}, repeatable=True)


def tokens(project: str) -> "Listing[Token]":
    return Listing(path("projects", project, "tokens"), "tokens.TokenPage", "tokens.Token")


def delete_token(project: str, name: str) -> "Call[None]":
    return Call("DELETE", path("projects", project, "tokens", name), repeatable=True)
