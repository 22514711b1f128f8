"""What is kept for how long. Small batches, and a line for everything that goes."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database import Database
from control_plane.models.checkpoints import NOT_PROMOTED
from control_plane.routing.lessons import NEWEST
from control_plane.settings import ControlPlaneSettings
from imts_shared.contracts.retention import Pruning, Retention, Rule

BATCH = 200

_EVENTS = """
WITH old AS (
    SELECT id FROM jobs WHERE ended_at < clock_timestamp() - make_interval(secs => :seconds)
    AND (events_pruned_at IS NULL OR events_pruned_at < ended_at) ORDER BY ended_at LIMIT :batch FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM job_events e USING old
    WHERE e.job_id = old.id AND e.type IN ('progress', 'metric', 'log', 'message') RETURNING 1
), marked AS (UPDATE jobs SET events_pruned_at = clock_timestamp() FROM old WHERE jobs.id = old.id RETURNING 1)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM marked)
"""

_LOGS = """
WITH old AS (
    SELECT id FROM jobs WHERE ended_at < clock_timestamp() - make_interval(secs => :seconds)
    AND (logs_pruned_at IS NULL OR logs_pruned_at < ended_at) ORDER BY ended_at LIMIT :batch FOR UPDATE SKIP LOCKED
), gone AS (DELETE FROM job_logs l USING old WHERE l.job_id = old.id RETURNING l.job_id, l.lines, l.key),
files AS (
    INSERT INTO storage_trash (prefix)
    SELECT DISTINCT 'jobs/' || job_id || '/logs/' FROM gone WHERE key IS NOT NULL RETURNING 1
), marked AS (UPDATE jobs SET logs_pruned_at = clock_timestamp() FROM old WHERE jobs.id = old.id RETURNING 1)
SELECT (SELECT coalesce(sum(lines), 0) FROM gone), (SELECT count(*) FROM marked)
"""

_FREE = f"""{NOT_PROMOTED} AND (j.state = 'succeeded' OR c.prefix <> rtrim(j.checkpoint ->> 'prefix', '/'))"""

_JOBS_WITH_CHECKPOINTS = f"""
SELECT j.id FROM jobs j WHERE j.ended_at < clock_timestamp() - make_interval(secs => :seconds)
AND EXISTS (SELECT 1 FROM job_checkpoints c WHERE c.job_id = j.id AND {_FREE})
ORDER BY j.ended_at LIMIT :batch FOR UPDATE OF j SKIP LOCKED
"""

_CHECKPOINTS = f"""
WITH gone AS (
    DELETE FROM job_checkpoints c USING jobs j
    WHERE j.id = c.job_id AND j.id = ANY(CAST(:jobs AS uuid[])) AND {_FREE} RETURNING c.prefix
), files AS (INSERT INTO storage_trash (prefix) SELECT prefix FROM gone RETURNING 1)
SELECT count(*), count(*) FROM gone
"""

_JOBS = """
WITH gone AS (
    DELETE FROM jobs WHERE id IN (
        SELECT id FROM jobs WHERE ended_at < clock_timestamp() - make_interval(secs => :seconds)
        AND NOT EXISTS (SELECT 1 FROM models WHERE models.job_id = jobs.id)
        ORDER BY ended_at LIMIT :batch FOR UPDATE SKIP LOCKED
    ) RETURNING id
), files AS (INSERT INTO storage_trash (prefix) SELECT 'jobs/' || id || '/' FROM gone RETURNING 1)
SELECT count(*), count(*) FROM gone
"""

_DELIVERIES = """
WITH gone AS (
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries WHERE state <> 'pending'
        AND created_at < clock_timestamp() - make_interval(secs => :seconds) LIMIT :batch * 10 FOR UPDATE SKIP LOCKED
    ) RETURNING 1
) SELECT count(*), count(*) FROM gone
"""

_REQUESTS = """
WITH gone AS (
    DELETE FROM request_log WHERE number IN (
        SELECT number FROM request_log WHERE at < clock_timestamp() - make_interval(secs => :seconds)
        ORDER BY at LIMIT :batch * 10 FOR UPDATE SKIP LOCKED
    ) RETURNING 1
) SELECT count(*), count(*) FROM gone
"""

_DECISIONS = """
WITH gone AS (
    DELETE FROM routing_decisions WHERE decision_id IN (
        SELECT decision_id FROM routing_decisions WHERE at < clock_timestamp() - make_interval(secs => :seconds)
        ORDER BY at LIMIT :batch * 10 FOR UPDATE SKIP LOCKED
    ) RETURNING 1
) SELECT count(*), count(*) FROM gone
"""

_LESSONS = f"""
WITH routes AS (SELECT DISTINCT project, route FROM routing_lessons),
old AS (
    SELECT l.number FROM routes CROSS JOIN LATERAL (
        SELECT number FROM routing_lessons n WHERE n.project = routes.project AND n.route = routes.route
        ORDER BY number DESC OFFSET {NEWEST} LIMIT 1
    ) spare JOIN routing_lessons l
        ON l.project = routes.project AND l.route = routes.route AND l.number <= spare.number
    WHERE l.at < clock_timestamp() - make_interval(secs => :seconds) LIMIT :batch * 10
), gone AS (DELETE FROM routing_lessons WHERE number IN (SELECT number FROM old) RETURNING 1)
SELECT count(*), count(*) FROM gone
"""


@dataclass(frozen=True)
class _Rule:
    name: str
    setting: str
    what: str
    statement: str
    jobs: str | None = None
    """Locks the jobs that the statement is for, so that it sees what was done to them until then."""


RULES = (
    _Rule("events", "keep_event_days", "Progress, metric, log and message events of ended jobs.", _EVENTS),
    _Rule("logs", "keep_log_days", "Log lines of ended jobs.", _LOGS),
    _Rule(
        "checkpoints",
        "keep_checkpoint_days",
        "Checkpoints of ended jobs that no model came from, and that no retry would go on from.",
        _CHECKPOINTS,
        _JOBS_WITH_CHECKPOINTS,
    ),
    _Rule("jobs", "keep_job_days", "Ended jobs that no model came from, with all that they wrote.", _JOBS),
    _Rule("deliveries", "keep_delivery_days", "Webhook deliveries that have ended.", _DELIVERIES),
    _Rule("requests", "keep_request_days", "Logged requests of the gateway.", _REQUESTS),
    _Rule("decisions", "keep_decision_days", "Routing decisions with what was said of them.", _DECISIONS),
    _Rule("lessons", "keep_decision_days", f"Lessons of routing, but for the newest {NEWEST} of each route.", _LESSONS),
)


def days_of(config: ControlPlaneSettings, rule: _Rule) -> float:
    return float(getattr(config, rule.setting))


async def prune(database: Database, config: ControlPlaneSettings) -> dict[str, int]:
    """Applies every rule to the end, a short transaction at a time. Answers what went, by rule."""
    removed: dict[str, int] = {}
    for rule in RULES:
        days = days_of(config, rule)
        if days == 0:
            continue
        asked = {"seconds": days * 86_400, "batch": BATCH}
        while True:
            async with database.transaction() as session:
                gone, touched = await _apply(session, rule, asked)
                if gone:
                    await session.execute(
                        text("INSERT INTO prunings (at, rule, removed) VALUES (clock_timestamp(), :rule, :removed)"),
                        {"rule": rule.name, "removed": int(gone)},
                    )
            removed[rule.name] = removed.get(rule.name, 0) + int(gone)
            if touched == 0:
                break
    return {name: count for name, count in removed.items() if count}


async def _apply(session: AsyncSession, rule: _Rule, asked: dict[str, Any]) -> tuple[int, int]:
    if rule.jobs is None:
        found = await session.execute(text(rule.statement), asked)
    else:
        jobs = (await session.execute(text(rule.jobs), asked)).scalars().all()
        found = await session.execute(text(rule.statement), {"jobs": list(jobs)})
    gone, touched = found.one()
    return int(gone), int(touched)


async def report(session: AsyncSession, config: ControlPlaneSettings, limit: int) -> Retention:
    rows = await session.execute(
        text("SELECT at, rule, removed FROM prunings ORDER BY at DESC LIMIT :limit"), {"limit": limit}
    )
    return Retention(
        rules=[Rule(rule=rule.name, days=days_of(config, rule) or None, what=rule.what) for rule in RULES],
        recent=[Pruning(at=at, rule=rule, removed=removed) for at, rule, removed in rows.all()],
    )
