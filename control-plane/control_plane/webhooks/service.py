"""Webhooks made, listed and deleted; their deliveries listed and sent again."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from control_plane.access.caller import Caller
from control_plane.addresses import AddressRefused, resolve, target
from control_plane.database import new_id, parse_id
from control_plane.problems import Refusal, not_found
from control_plane.webhooks.rows import DeliveryRow, WebhookRow
from control_plane.webhooks.signing import secret_of, shown
from imts_shared.contracts.access import Delivery, NewWebhook, Role, Webhook, WebhookRequest
from imts_shared.contracts.jobs import JobKind, JobState


def webhook_answer(row: WebhookRow) -> Webhook:
    return Webhook(
        id=str(row.id),
        url=row.url,
        project=row.project,
        states=[JobState(state) for state in row.states],
        kinds=[JobKind(kind) for kind in row.kinds],
        created_at=row.created_at,
    )


def delivery_answer(row: DeliveryRow) -> Delivery:
    return Delivery(
        id=str(row.id),
        state=row.state,
        event=row.event,
        tries=row.tries,
        next_try_at=row.next_try_at,
        last_status=row.last_status,
        last_error=row.last_error,
        created_at=row.created_at,
        delivered_at=row.delivered_at,
    )


async def check_address(request: WebhookRequest, caller: Caller) -> bool:
    """Refuses what this caller's webhook may not reach. Answers whether internal addresses are allowed to it."""
    allow_internal = caller.role == Role.admin
    where = target(request.url, credentials_hint="Deliveries are signed; check the signature instead.")
    try:
        await resolve(where.host, where.port, allow_internal=allow_internal)
    except AddressRefused:
        raise Refusal(
            403,
            "internal_address",
            f"{where.host} is an address of this machine or of a private network.",
            field="url",
            hint="Only an admin's key may make a webhook that leads there.",
        ) from None
    except OSError:
        if not allow_internal:
            raise Refusal(409, "unknown_host", f"{where.host[:200]} has no address.", field="url") from None
    return allow_internal


async def create(
    session: AsyncSession, request: WebhookRequest, caller: Caller, secret_key: str, *, allow_internal: bool
) -> NewWebhook:
    row = WebhookRow(
        id=new_id(),
        project=caller.writes_in(request.project),
        url=request.url,
        states=sorted(str(state) for state in set(request.states)),
        kinds=sorted(str(kind) for kind in set(request.kinds)),
        allow_internal=allow_internal,
        created_at=await session.scalar(text("SELECT clock_timestamp()")),
    )
    session.add(row)
    try:
        await session.flush()
    except IntegrityError:
        raise not_found("project", row.project) from None
    return NewWebhook(**webhook_answer(row).model_dump(), secret=shown(secret_of(secret_key, row.id)))


async def find(session: AsyncSession, project: str | None, before: UUID | None, limit: int) -> Sequence[WebhookRow]:
    query = select(WebhookRow).order_by(col(WebhookRow.id).desc()).limit(limit)
    if project is not None:
        query = query.where(col(WebhookRow.project) == project)
    if before is not None:
        query = query.where(col(WebhookRow.id) < before)
    return (await session.execute(query)).scalars().all()


async def get(session: AsyncSession, webhook_id: str, project: str | None) -> WebhookRow:
    identity = parse_id(webhook_id)
    row = await session.get(WebhookRow, identity) if identity else None
    if row is None or project not in {None, row.project}:
        raise not_found("webhook", webhook_id)
    return row


async def remove(session: AsyncSession, webhook_id: str, project: str | None) -> None:
    row = await get(session, webhook_id, project)
    await session.execute(delete(WebhookRow).where(col(WebhookRow.id) == row.id))


async def test(session: AsyncSession, row: WebhookRow) -> Delivery:
    """Queues a delivery that tells of nothing but itself."""
    now = await session.scalar(text("SELECT clock_timestamp()"))
    event = {"type": "webhook.test", "timestamp": now.isoformat(), "data": {"webhookId": str(row.id)}}
    made = await session.execute(
        insert(DeliveryRow)
        .values(webhook_id=row.id, event=event, state="pending", tries=0, next_try_at=now, created_at=now)
        .returning(DeliveryRow)
    )
    return delivery_answer(made.scalar_one())


async def deliveries(
    session: AsyncSession, row: WebhookRow, state: str | None, before: int, limit: int
) -> Sequence[DeliveryRow]:
    query = (
        select(DeliveryRow)
        .where(col(DeliveryRow.webhook_id) == row.id)
        .order_by(col(DeliveryRow.id).desc())
        .limit(limit)
    )
    if before:
        query = query.where(col(DeliveryRow.id) < before)
    if state is not None:
        query = query.where(col(DeliveryRow.state) == state)
    return (await session.execute(query)).scalars().all()


async def redeliver(session: AsyncSession, row: WebhookRow, delivery_id: str) -> Delivery:
    """Sends an ended delivery once more, under its old id; one that is still pending is sent anyway."""
    number = int(delivery_id) if delivery_id.isascii() and delivery_id.isdigit() and len(delivery_id) < 19 else 0
    found = (
        await session.execute(
            select(DeliveryRow)
            .where(col(DeliveryRow.id) == number, col(DeliveryRow.webhook_id) == row.id)
            .with_for_update()
        )
    ).scalar_one_or_none()
    if found is None:
        raise not_found("delivery", delivery_id)
    if found.state != "pending":
        found.state = "pending"
        found.tries = 0
        found.delivered_at = None
        found.next_try_at = await session.scalar(text("SELECT clock_timestamp()"))
    return delivery_answer(found)
