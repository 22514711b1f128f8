"""Webhooks over REST."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from control_plane.api.context import Here, Reader, Writer
from control_plane.api.pages import IdCursor, Limit, NumberCursor, ProjectQuery, answer, next_cursor
from control_plane.api.requests import StrictRoute
from control_plane.hints import DELIVERIES
from control_plane.webhooks import service
from imts_shared.contracts.access import Delivery, DeliveryPage, NewWebhook, Webhook, WebhookPage, WebhookRequest

router = APIRouter(prefix="/api/webhooks", tags=["webhooks"], route_class=StrictRoute)


@router.post("", response_model=NewWebhook, status_code=201, operation_id="create_webhook", summary="Create a webhook")
async def create_webhook(here: Here, caller: Writer, request: WebhookRequest) -> Response:
    allow_internal = await service.check_address(request, caller)
    secret_key = here.settings.secret_key.get_secret_value()
    async with here.database.transaction() as session:
        made = await service.create(session, request, caller, secret_key, allow_internal=allow_internal)
    return answer(made, 201)


@router.get("", response_model=WebhookPage, operation_id="list_webhooks", summary="List webhooks, newest first")
async def list_webhooks(
    here: Here, caller: Reader, project: ProjectQuery = None, cursor: IdCursor = None, limit: Limit = 100
) -> Response:
    async with here.database.transaction() as session:
        rows = await service.find(session, caller.reads_in(project), cursor, limit)
    items = [service.webhook_answer(row) for row in rows]
    return answer(WebhookPage(items=items, next_cursor=next_cursor(rows, limit, rows[-1].id if rows else None)))


@router.get("/{webhook_id}", response_model=Webhook, operation_id="get_webhook", summary="Show a webhook")
async def get_webhook(here: Here, caller: Reader, webhook_id: str) -> Response:
    async with here.database.transaction() as session:
        return answer(service.webhook_answer(await service.get(session, webhook_id, caller.project)))


@router.delete("/{webhook_id}", status_code=204, operation_id="delete_webhook", summary="Delete a webhook")
async def delete_webhook(here: Here, caller: Writer, webhook_id: str) -> Response:
    async with here.database.transaction() as session:
        await service.remove(session, webhook_id, caller.project)
    return Response(status_code=204)


@router.post(
    "/{webhook_id}/test",
    response_model=Delivery,
    status_code=202,
    operation_id="test_webhook",
    summary="Send a delivery that tells of nothing but itself",
)
async def test_webhook(here: Here, caller: Writer, webhook_id: str) -> Response:
    async with here.database.transaction() as session:
        row = await service.get(session, webhook_id, caller.project)
        made = await service.test(session, row)
    here.hints.send(DELIVERIES)
    return answer(made, 202)


@router.get(
    "/{webhook_id}/deliveries",
    response_model=DeliveryPage,
    operation_id="list_deliveries",
    summary="What was sent and what became of it, newest first",
)
async def list_deliveries(
    here: Here,
    caller: Reader,
    webhook_id: str,
    state: Annotated[Literal["pending", "delivered", "failed"] | None, Query()] = None,
    cursor: NumberCursor = "",
    limit: Limit = 100,
) -> Response:
    async with here.database.transaction() as session:
        row = await service.get(session, webhook_id, caller.project)
        rows = await service.deliveries(session, row, state, int(cursor or 0), limit)
    items = [service.delivery_answer(found) for found in rows]
    return answer(DeliveryPage(items=items, next_cursor=next_cursor(rows, limit, rows[-1].id if rows else None)))


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    response_model=Delivery,
    status_code=202,
    operation_id="redeliver",
    summary="Send a delivery once more",
)
async def redeliver(here: Here, caller: Writer, webhook_id: str, delivery_id: str) -> Response:
    async with here.database.transaction() as session:
        row = await service.get(session, webhook_id, caller.project)
        again = await service.redeliver(session, row, delivery_id)
    here.hints.send(DELIVERIES)
    return answer(again, 202)
