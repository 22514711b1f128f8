"""Which addresses a provider may have: anywhere in the world, inside only where an admin's key says so."""

import asyncio

from control_plane.access.caller import Caller
from control_plane.addresses import AddressRefused, Target, resolve, target
from control_plane.problems import Refusal
from imts_shared.contracts.access import Role

RESOLVING_SECONDS = 5.0


def admin_only(detail: str, field: str) -> Refusal:
    return Refusal(403, "admin_only", detail, field=field, hint="Ask an admin, or use an admin's key.")


def check_allowing(allow_internal: bool | None, caller: Caller) -> None:
    if allow_internal and caller.role != Role.admin:
        raise admin_only("Only an admin's key may allow a provider internal addresses.", "allowInternal")


async def check_address(base_url: str, *, allow_internal: bool) -> None:
    """A name that leads nowhere now is taken: the gateway looks again at each connection."""
    if allow_internal:
        return
    where = target(base_url, "baseUrl")
    try:
        async with asyncio.timeout(RESOLVING_SECONDS):
            await resolve(where.host, where.port, allow_internal=False)
    except AddressRefused:
        raise Refusal(
            403,
            "internal_address",
            f"{where.host} is an address of this machine or of a private network.",
            field="baseUrl",
            hint="Only an admin's key may allow that, with allowInternal: true.",
        ) from None
    except (OSError, UnicodeError):
        return


def origin(base_url: str) -> Target:
    found = target(base_url, "baseUrl")
    return Target(found.host, found.port, found.secure, "")
