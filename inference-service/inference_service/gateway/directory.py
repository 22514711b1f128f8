"""Keys, names and engines as the newest snapshot has them, indexed for the data path."""

import asyncio
import difflib
import hashlib
import time
from dataclasses import dataclass, field

from imts_shared.contracts.access import Role
from imts_shared.contracts.serving import KnownKey, ServedModel, Snapshot
from inference_service.gateway.errors import Refusal
from inference_service.gateway.targets import Target

MAY_ASK = frozenset({Role.admin, Role.member, Role.inference})
DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """`project` is None for a key of every project; `named` is the project that the request itself names."""

    role: Role
    project: str | None
    named: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    served: ServedModel
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class _View:
    version: str
    keys: dict[str, KnownKey] = field(default_factory=dict)
    projects: dict[str, dict[str, Model]] = field(default_factory=dict)


class Directory:
    def __init__(self) -> None:
        self._view: _View | None = None
        self._targets: dict[tuple[str, str], Target] = {}
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
        before, self._targets = self._targets, {}
        projects: dict[str, dict[str, Model]] = {}
        for served in snapshot.models:
            found = []
            for named in served.targets:
                which = (named.url, named.replica)
                target = self._targets.get(which) or before.get(which) or Target(*which)
                self._targets[which] = target
                found.append(target)
            projects.setdefault(served.project, {})[served.name] = Model(served, tuple(found))
        self._view = _View(snapshot.version, {key.sha256: key for key in snapshot.keys}, projects)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

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
        return Caller(key.role, key.project, project.decode("latin-1") if project else None)

    def find(self, caller: Caller, name: str) -> Model:
        found = self._found(caller, name)
        if found is None:
            raise self._not_found(caller, name)
        return found

    def again(self, model: Model) -> Model:
        """The same name as it is now; a request that waits asks so after each change."""
        served = model.served
        found = self._known().projects.get(served.project, {}).get(served.name)
        if found is None:
            raise Refusal(404, f"The model `{served.name}` is there no more.", code="model_not_found", param="model")
        return found

    def models(self, caller: Caller) -> list[ServedModel]:
        """What can be asked now or after a wait, each name once: the one that a request by it would reach."""
        names = sorted({name for models in self._of(caller) for name in models})
        found = []
        for name in names:
            try:
                model = self._found(caller, name)
            except Refusal:
                continue
            if model is not None and (model.targets or model.served.state not in {"failed", "stopped"}):
                found.append(model.served)
        return found

    def _known(self) -> _View:
        if self._view is None:
            raise Refusal(
                503,
                "The gateway has not heard from the control plane yet.",
                code="starting",
                headers={"retry-after": "2"},
            )
        return self._view

    def _of(self, caller: Caller) -> list[dict[str, Model]]:
        projects = self._known().projects
        bound = caller.project or caller.named
        return [projects.get(bound, {})] if bound else list(projects.values())

    def _found(self, caller: Caller, name: str) -> Model | None:
        holding = [models[name] for models in self._of(caller) if name in models]
        if len(holding) < 2:
            return holding[0] if holding else None
        for model in holding:
            if model.served.project == DEFAULT_PROJECT:
                return model
        raise Refusal(
            400,
            f"Several projects have a model `{name}`, and this key may use them all: name one of"
            f" {', '.join(sorted(model.served.project for model in holding))} in the header OpenAI-Project.",
            code="ambiguous_model",
            param="model",
        )

    def _not_found(self, caller: Caller, name: str) -> Refusal:
        shown = name if len(name) <= 200 else f"{name[:200]}..."
        names = sorted({known for models in self._of(caller) for known in models})
        near = difflib.get_close_matches(name[:200], names, n=1)
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
