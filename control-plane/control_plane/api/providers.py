"""Providers of models over REST. Their keys go in and never come out."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from control_plane.api.context import Here, Reader, Writer
from control_plane.api.pages import IdCursor, Limit, ProjectQuery, answer, next_cursor
from control_plane.api.requests import StrictRoute
from control_plane.hints import PROVIDERS
from control_plane.problems import Refusal
from control_plane.providers import keys, service
from control_plane.providers.addressing import check_address, check_allowing
from control_plane.providers.asking import ask
from control_plane.providers.offers import check_offers
from control_plane.routing import naming
from control_plane.tokens.sealing import Sealer, Unreadable
from imts_shared.contracts.providers import Provider, ProviderChange, ProviderCheck, ProviderPage, ProviderRequest

router = APIRouter(prefix="/api/providers", tags=["providers"], route_class=StrictRoute)
Named = Annotated[str, Path(max_length=200, pattern=r"^[^\x00]+$", description="A provider's id or name.")]


@router.post(
    "", response_model=Provider, status_code=201, operation_id="create_provider", summary="Add a provider of models"
)
async def create_provider(here: Here, caller: Writer, request: ProviderRequest) -> Response:
    """Its models can be asked at the gateway at once, by the names given here. Several providers and deployments may
    answer for one name: they share the requests by weight. The key is stored encrypted. Addresses of this machine and
    of private networks are refused, unless an admin's key says `allowInternal: true`."""
    project = service.project_for(request, caller)
    check_allowing(request.allow_internal, caller)
    check_offers(request.models)
    await check_address(request.base_url, allow_internal=request.allow_internal)
    async with here.database.transaction() as session:
        made = await service.create(session, request, project, caller, Sealer.of(here.settings))
    here.hints.send(PROVIDERS)
    return answer(made, 201)


@router.get("", response_model=ProviderPage, operation_id="list_providers", summary="List providers, newest first")
async def list_providers(
    here: Here, caller: Reader, project: ProjectQuery = None, cursor: IdCursor = None, limit: Limit = 100
) -> Response:
    """A project's own and those of all projects."""
    sealer = Sealer.of(here.settings)
    async with here.database.transaction() as session:
        rows = await service.find(session, caller.reads_in(project), cursor, limit)
    items = [service.provider_answer(row, sealer) for row in rows]
    return answer(ProviderPage(items=items, next_cursor=next_cursor(rows, limit, rows[-1].id if rows else None)))


@router.get("/{provider}", response_model=Provider, operation_id="get_provider", summary="Show a provider")
async def get_provider(here: Here, caller: Reader, provider: Named, project: ProjectQuery = None) -> Response:
    async with here.database.transaction() as session:
        row = await service.get(session, provider, caller.reads_in(project))
    return answer(service.provider_answer(row, Sealer.of(here.settings)))


@router.patch("/{provider}", response_model=Provider, operation_id="change_provider", summary="Change a provider")
async def change_provider(
    here: Here, caller: Writer, provider: Named, change: ProviderChange, project: ProjectQuery = None
) -> Response:
    """Only what is named changes; gateways know it within a second."""
    inside = caller.reads_in(project)
    async with here.database.transaction() as session:
        before = await service.get_to_change(session, provider, inside, caller)
        service.check_change(before, change, caller)
    allowed = before.allow_internal if change.allow_internal is None else change.allow_internal
    if change.base_url is not None or allowed != before.allow_internal:
        await check_address(change.base_url or before.base_url, allow_internal=allowed)
    async with here.database.transaction() as session:
        await naming.hold(session)
        row = await service.get_to_change(session, str(before.id), inside, caller)
        if row.updated_at != before.updated_at:
            raise Refusal(409, "changed_meanwhile", "Somebody else has just changed this provider.", hint="Try again.")
        changed = await service.change(session, row, change, caller, Sealer.of(here.settings))
    here.hints.send(PROVIDERS)
    return answer(changed)


@router.delete("/{provider}", status_code=204, operation_id="delete_provider", summary="Delete a provider and its key")
async def delete_provider(here: Here, caller: Writer, provider: Named, project: ProjectQuery = None) -> Response:
    async with here.database.transaction() as session:
        await service.remove(session, await service.get_to_change(session, provider, caller.reads_in(project), caller))
    here.hints.send(PROVIDERS)
    return Response(status_code=204)


@router.post(
    "/{provider}/check",
    response_model=ProviderCheck,
    operation_id="check_provider",
    summary="Ask a provider for its models",
)
async def check_provider(here: Here, caller: Writer, provider: Named, project: ProjectQuery = None) -> Response:
    """Says whether it answers with the key that it has, which models it lists, and which of those offered here it does
    not. It waits 10 seconds at most."""
    sealer = Sealer.of(here.settings)
    async with here.database.transaction() as session:
        row = await service.get(session, provider, caller.reads_in(project))
    shown = service.provider_answer(row, sealer)
    try:
        key = keys.key_of(row, sealer)
    except Unreadable:
        return answer(ProviderCheck(ok=False, message=shown.problem or ""))
    return answer(await ask(shown, key))
