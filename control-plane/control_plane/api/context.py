"""What the endpoints share in one process, and how they get at it and at who is calling."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from control_plane.access.caller import Caller
from control_plane.access.keys import KeyRing
from control_plane.database import Database
from control_plane.datasets.analyzer import Analyzer
from control_plane.datasets.service import Datasets
from control_plane.deployments.checker import EngineChecker
from control_plane.gateway.lessons import LessonNews
from control_plane.gateway.snapshot import Snapshots
from control_plane.hints import Hints
from control_plane.jobs.live import LiveEvents
from control_plane.jobs.queue import QueueView
from control_plane.jobs.references import References
from control_plane.jobs.service import Submissions
from control_plane.problems import Refusal
from control_plane.settings import ControlPlaneSettings
from imts_shared.contracts.access import Role
from imts_shared.storage import Storage


@dataclass
class Context:
    settings: ControlPlaneSettings
    database: Database
    hints: Hints
    queue: QueueView
    references: References
    submissions: Submissions
    live: LiveEvents
    keys: KeyRing
    storage: Storage
    analyzer: Analyzer
    datasets: Datasets
    engines: EngineChecker
    snapshots: Snapshots
    lessons: LessonNews


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Here = Annotated[Context, Depends(_context)]

bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer imts_...`")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]


async def _caller(request: Request, here: Here, credentials: Bearer) -> Caller:
    if credentials is None:
        raise Refusal(
            401,
            "no_key",
            "An API key is needed here.",
            hint="Send `Authorization: Bearer <key>`; `./imts status` tells where the admin key lies.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    address = request.client.host if request.client else "unknown"
    return await here.keys.caller(credentials.credentials, address)


def _need(caller: Caller, *roles: Role) -> Caller:
    if caller.role not in roles:
        raise Refusal(
            403,
            "role_too_small",
            f"A key of role {caller.role} may not do this.",
            hint=f"Use a key of role {' or '.join(roles)}.",
        )
    return caller


async def _reader(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    return _need(caller, Role.viewer, Role.member, Role.admin)


async def _writer(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    return _need(caller, Role.member, Role.admin)


async def _admin(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    return _need(caller, Role.admin)


AnyCaller = Annotated[Caller, Depends(_caller)]
Reader = Annotated[Caller, Depends(_reader)]
Writer = Annotated[Caller, Depends(_writer)]
Admin = Annotated[Caller, Depends(_admin)]
