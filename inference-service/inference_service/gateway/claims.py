"""What a request makes others do beside it (a judge) is held of the same budgets, and counted to the same key."""

import time
from dataclasses import dataclass

from imts_shared.contracts.limits import Limits
from inference_service.gateway.counting import Tokens
from inference_service.gateway.directory import Caller, Directory
from inference_service.gateway.ledger import Ledger
from inference_service.gateway.quota import Grant, Quota, Scopes
from inference_service.gateway.targets import Target
from inference_service.routing.pacing import Pacer


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """Of whose request. `budget` and `pacer`: of the route that asks."""

    caller: Caller
    project: str
    route: str
    budget: Limits | None
    pacer: Pacer | None


class Claim:
    """To be settled once, whatever came of it."""

    def __init__(self, ledger: Ledger, of: OnBehalf, model: str, target: Target, grants: list[Grant]) -> None:
        self._ledger = ledger
        self._of = of
        self._model = model
        self._target = target
        self._grants = grants

    def settle(self, used: Tokens) -> None:
        cost = self._target.prices.cost(used.input, used.cached, used.output)
        for grant in self._grants:
            grant.settle(used.input + used.output, cost)
        of = self._of
        if of.pacer is not None and cost:
            of.pacer.spend(cost, time.time())
        self._ledger.count(
            of.caller.key_id, of.project, self._model, self._target.name, used, cost, failed=not used.told
        )


class Claims:
    def __init__(self, directory: Directory, quota: Quota, ledger: Ledger) -> None:
        self._directory = directory
        self._quota = quota
        self._ledger = ledger

    async def claim(self, of: OnBehalf, model: str, target: Target, given: int, made: int) -> Claim:
        """Raises the Refusal of a limit that is reached: nobody is to be asked then."""
        project = self._directory.project(of.project)
        limits = project.limits if project else None
        money = target.prices.cost(given, 0, made)
        grants: list[Grant] = []
        try:
            scopes = self._quota.scopes(of.caller.key_id, of.caller.limits, of.project, limits)
            await self._take(grants, scopes, given + made, money)
            if of.budget is not None:
                await self._take(grants, self._quota.route(of.project, of.route, of.budget), given + made, money)
            if target.limits is not None and target.provided is not None:
                upstream = self._quota.upstream(target.provided.identity, target.limits)
                grants.append(await self._quota.admit(upstream, given + made, 0.0))
        except BaseException:
            for grant in grants:
                grant.settle(0, 0)
            raise
        return Claim(self._ledger, of, model, target, grants)

    async def _take(self, grants: list[Grant], scopes: Scopes | None, tokens: float, money: float) -> None:
        if scopes is not None:
            grant = await self._quota.admit(scopes, tokens, money)
            grant.is_part_of_another()
            grants.append(grant)
