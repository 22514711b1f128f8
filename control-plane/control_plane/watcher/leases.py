"""Ending what has gone silent: messages that nobody claimed, attempts whose lease ran out."""

from uuid import UUID

from loguru import logger
from prometheus_client import Counter
from sqlalchemy import text

from control_plane.database import Database
from control_plane.hints import Hints
from control_plane.jobs.lifecycle import Happening
from control_plane.jobs.transitions import Changes, apply, lock_job
from control_plane.settings import settings
from control_plane.workers.service import API

LOST = Counter("imts_attempts_lost_total", "Attempts ended because nothing was heard.", ["why"])

SILENT = """
(SELECT j.id, j.attempt, false AS lost FROM jobs j
WHERE j.state = 'dispatched' AND j.worker_id IS NOT NULL
  AND (j.dispatched_at < clock_timestamp() - make_interval(secs => :claim)
       OR NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = j.worker_id)) LIMIT 500)
UNION ALL
(SELECT j.id, j.attempt, true FROM jobs j, presence p
WHERE j.state IN ('running', 'stopping') AND j.worker_id IS NOT NULL AND j.lease_until < clock_timestamp()
  AND p.name = :api AND p.seen_at > clock_timestamp() - interval '3 seconds'
  AND p.since < clock_timestamp() - make_interval(secs => :lease) LIMIT 500)
"""
"""Nobody claimed the message, or nobody can any more; or its lease ran out. A worker could only be heard while an api
was there: a lease runs out after the api has been up for a whole lease."""


async def end_silent_attempts(database: Database, hints: Hints) -> int:
    rules = settings()
    asked = {"claim": rules.claim_seconds, "api": API, "lease": rules.lease_seconds}
    async with database.statements() as session:
        silent = (await session.execute(text(SILENT), asked)).all()
    ended = 0
    for job_id, attempt, lost in silent:
        ended += await _end(database, hints, job_id, attempt, Happening.lose if lost else Happening.undelivered)
    return ended


async def _end(database: Database, hints: Hints, job_id: UUID, attempt: int, happening: Happening) -> bool:
    """Looks once more under the row's lock: the claim or the report may have come in between."""
    changes = Changes()
    async with database.transaction() as session:
        still = (
            await session.execute(
                text(
                    "SELECT 1 FROM jobs WHERE id = :id AND attempt = :attempt AND"
                    " ((:lost AND state IN ('running', 'stopping') AND lease_until < clock_timestamp())"
                    "  OR (NOT :lost AND state = 'dispatched')) FOR UPDATE"
                ),
                {"id": job_id, "attempt": attempt, "lost": happening == Happening.lose},
            )
        ).one_or_none()
        if still is None:
            return False
        job = await lock_job(session, job_id)
        moved = await apply(session, job, happening, changes)
    changes.send(hints)
    LOST.labels(str(happening)).inc()
    logger.bind(job=str(job_id), attempt=attempt, why=str(happening), state=job.state).warning("attempt ended")
    return moved
