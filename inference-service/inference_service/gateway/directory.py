"""Keys, names and upstreams as the newest snapshot has them, indexed for the data path."""

import asyncio
import bisect
import difflib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from imts_shared.contracts.access import RequestLog, Role
from imts_shared.contracts.limits import Limits
from imts_shared.contracts.serving import KnownKey, KnownProject, KnownRoute, ServedModel, Snapshot
from inference_service.gateway.errors import Refusal
from inference_service.gateway.providers import Providers, fallbacks
from inference_service.gateway.targets import Offer, Target

MAY_ASK = frozenset({Role.admin, Role.member, Role.inference})
DEFAULT_PROJECT = "default"
COMPARED = 100
"""Names before and behind an unknown one, among which the nearest is looked for: each takes time."""


@dataclass(frozen=True, slots=True)
class Caller:
    """`project` is None for a key of every project; `named` is the project that the request itself names."""

    key_id: str
    role: Role
    project: str | None
    named: str | None = None
    limits: Limits | None = None

    @property
    def bound(self) -> str | None:
        return self.project or self.named


@dataclass(frozen=True, slots=True)
class Model:
    """All that answers for a name: the engines of a deployment, and what providers offer. `project` is None where it is
    everybody's."""

    name: str
    project: str | None
    served: ServedModel | None = None
    engines: tuple[Target, ...] = ()
    offers: tuple[Offer, ...] = ()
    fallbacks: tuple[str, ...] = ()


Models = dict[str, Model]


@dataclass(frozen=True, slots=True)
class _View:
    version: str
    keys: dict[str, KnownKey] = field(default_factory=dict)
    projects: dict[str, KnownProject] = field(default_factory=dict)
    models: dict[str, Models] = field(default_factory=dict)
    """By project, with what is everybody's among them."""
    shared: Models = field(default_factory=dict)
    routes: dict[tuple[str, str], KnownRoute] = field(default_factory=dict)


class Directory:
    def __init__(self, open_key: Callable[[str, str], str] | None = None) -> None:
        self._view: _View | None = None
        self._engines: dict[tuple[str, str], Target] = {}
        self._providers = Providers(open_key)
        self._changed = asyncio.Event()

    @property
    def version(self) -> str | None:
        return self._view.version if self._view else None

    @property
    def changed(self) -> asyncio.Event:
        """Set when a newer snapshot is in force. Take it before you look: a change between the two is then heard."""
        return self._changed

    def apply(self, snapshot: Snapshot) -> None:
        """In one step, without awaiting: no request sees half of it. What runs at an engine that left runs on."""
        offers = self._providers.offers(snapshot.providers)
        shared = {
            name: Model(name, None, offers=tuple(one.offer for one in found), fallbacks=fallbacks(found))
            for name, found in offers.get(None, {}).items()
        }
        models: dict[str, Models] = {project: dict(shared) for project in _projects(snapshot)}
        for project, named in offers.items():
            if project is not None:
                for name, found in named.items():
                    both = [*found, *offers.get(None, {}).get(name, ())]
                    models[project][name] = Model(
                        name, project, offers=tuple(one.offer for one in both), fallbacks=fallbacks(both)
                    )
        before, self._engines = self._engines, {}
        for served in snapshot.models:
            there = models[served.project].get(served.name)
            models[served.project][served.name] = Model(
                served.name,
                served.project,
                served,
                tuple(self._engine((one.url, one.replica), before) for one in served.targets),
                there.offers if there else (),
                there.fallbacks if there else (),
            )
        keys = {key.sha256: key for key in snapshot.keys}
        projects = {one.name: one for one in snapshot.projects}
        routes = {(one.project, one.name): one for one in snapshot.routes}
        self._view = _View(snapshot.version, keys, projects, models, shared, routes)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _engine(self, which: tuple[str, str], before: dict[tuple[str, str], Target]) -> Target:
        target = self._engines.get(which) or before.get(which) or Target(*which)
        self._engines[which] = target
        return target

    def caller(self, authorization: bytes, project: bytes | None) -> Caller:
        """The key is looked up by its hash, so how long that takes tells nothing about other keys."""
        view = self._known()
        scheme, _, secret = authorization.partition(b" ")
        secret = secret.strip()
        if scheme.lower() != b"bearer" or not secret:
            raise _no_key()
        key = view.keys.get(hashlib.sha256(secret).hexdigest())
        if key is None:
            raise Refusal(401, "Incorrect API key provided.", code="invalid_api_key")
        if key.expires_at is not None and key.expires_at.timestamp() <= time.time():
            raise Refusal(401, "This API key has expired: ask for a new one.", code="expired_api_key")
        named = project.decode("latin-1") if project and not key.project else None
        if named is not None and named not in view.models:
            raise Refusal(404, f"There is no project `{named[:63]}` here.", code="unknown_project")
        return Caller(key.id, key.role, key.project, named, key.limits)

    def find(self, caller: Caller, name: str) -> Model:
        found = self._found(caller, name)
        if found is None:
            raise self._not_found(caller, name)
        return found

    def of_project(self, caller: Caller) -> Caller:
        """As if the key were the project's own, where it is of all projects and names none."""
        return caller if caller.bound else replace(caller, named=DEFAULT_PROJECT)

    def find_if_there(self, caller: Caller, name: str) -> Model | None:
        try:
            return self._found(caller, name)
        except Refusal:
            return None

    def again(self, model: Model) -> Model:
        """The same name as it is now; a request that waits asks so after each change."""
        view = self._known()
        models = view.shared if model.project is None else view.models.get(model.project, {})
        found = models.get(model.name)
        if found is None:
            raise Refusal(404, f"The model `{model.name}` is there no more.", code="model_not_found", param="model")
        return found

    def models(self, caller: Caller) -> list[Model]:
        """What can be asked now or after a wait, each name once: the one that a request by it would reach."""
        names = sorted({name for models in self._of(caller) for name in models})
        found = []
        for name in names:
            model = self.find_if_there(caller, name)
            if model is not None and _may_answer(model):
                found.append(model)
        return found

    def project_of(self, caller: Caller) -> str:
        return caller.bound or DEFAULT_PROJECT

    def route(self, project: str, name: str) -> KnownRoute | None:
        return self._known().routes.get((project, name))

    def routes(self, project: str) -> list[str]:
        return [name for of, name in self._known().routes if of == project]

    def project(self, name: str) -> KnownProject | None:
        return self._known().projects.get(name)

    def logs(self, project: str) -> RequestLog:
        known = self.project(project)
        return known.request_log if known else RequestLog.off

    def _known(self) -> _View:
        if self._view is None:
            raise Refusal(
                503,
                "The gateway has not heard from the control plane yet.",
                code="starting",
                headers={"retry-after": "2"},
            )
        return self._view

    def _of(self, caller: Caller) -> list[Models]:
        view = self._known()
        if caller.bound:
            return [view.models.get(caller.bound, view.shared)]
        return [*view.models.values(), view.shared]

    def _found(self, caller: Caller, name: str) -> Model | None:
        """For a key of all projects that names none, what the project `default` has comes first: another project's
        model answers only where it is the only one by its name, and never in the place of one that is everybody's."""
        view = self._known()
        found = view.models.get(caller.bound or DEFAULT_PROJECT, view.shared).get(name)
        if found is not None or caller.bound:
            return found
        own = [models[name] for models in view.models.values() if name in models]
        if len(own) < 2:
            return own[0] if own else None
        raise Refusal(
            400,
            f"Several projects have a model `{name}`, and this key may use them all: name one of"
            f" {', '.join(sorted(str(model.project) for model in own))} in the header OpenAI-Project.",
            code="ambiguous_model",
            param="model",
        )

    def _not_found(self, caller: Caller, name: str) -> Refusal:
        shown = name if len(name) <= 200 else f"{name[:200]}..."
        names = sorted({known for models in self._of(caller) for known in models})
        at = bisect.bisect(names, name)
        near = difflib.get_close_matches(name[:200], names[max(0, at - COMPARED) : at + COMPARED], n=1)
        if near:
            hint = f" Did you mean `{near[0]}`?"
        else:
            hint = " GET /v1/models lists those that you may use." if names else " No model is deployed yet."
        return Refusal(
            404,
            f"The model `{shown}` does not exist or you do not have access to it.{hint}",
            code="model_not_found",
            param="model",
        )


def _projects(snapshot: Snapshot) -> set[str]:
    named = {one.name for one in snapshot.projects} | {one.project for one in snapshot.models}
    named |= {one.project for one in snapshot.providers if one.project}
    return named | {key.project for key in snapshot.keys if key.project} | {DEFAULT_PROJECT}


def _may_answer(model: Model) -> bool:
    if model.engines or model.offers:
        return True
    return model.served is not None and model.served.state not in {"failed", "stopped"}


def _no_key() -> Refusal:
    return Refusal(
        401,
        "You didn't provide an API key: send it as `Authorization: Bearer <key>`.",
        code="missing_api_key",
        headers={"www-authenticate": "Bearer"},
    )


def may_ask(caller: Caller) -> None:
    if caller.role not in MAY_ASK:
        raise Refusal(403, "A viewer's key reads, and asks no model: use another key.", code="insufficient_role")
