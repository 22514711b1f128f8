"""A look at what nobody may have told the watcher of: mostly there is nothing, and one question says so."""

from typing import NamedTuple

from sqlalchemy import text

from control_plane.database import Database
from control_plane.deployments import leases as deployments
from control_plane.settings import settings
from control_plane.watcher import leases as attempts
from control_plane.workers.service import API

_LOOK = text(
    "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued') AS queued,"
    f" EXISTS ({attempts.SILENT}) AS silent, {deployments.AMISS} AS amiss"
)


class Found(NamedTuple):
    queued: bool
    """Jobs, whether or not there is room for them."""
    silent: bool
    """Attempts."""
    amiss: bool
    """Deployments that nobody looks after, or no one any more."""


async def look(database: Database) -> Found:
    rules = settings()
    asked = {"claim": rules.claim_seconds, "api": API, "lease": rules.lease_seconds}
    async with database.statements() as session:
        return Found(*(await session.execute(_LOOK, asked)).one())
