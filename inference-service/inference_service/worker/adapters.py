"""The adapters of one replica: loaded into its running engine, taken out of it, and loaded again after a restart."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from imts_shared.contracts.serving import AdapterReport, WantedAdapter
from inference_service.engines.speaking import AdapterRefused, EngineClient
from inference_service.models import weights
from inference_service.models.finding import Finder
from inference_service.trouble import CannotServe


class Adapters:
    """What cannot be loaded is said, and harms neither the engine nor the other adapters."""

    def __init__(self, finder: Finder, say: Callable[[str], None]) -> None:
        self._finder = finder
        self._say = say
        self._tried: dict[str, str] = {}
        """What is loaded or cannot be, by name: another model of the same name is tried anew."""
        self._reports: dict[str, AdapterReport] = {}
        self._found: dict[str, str] = {}

    def take_over(self, found: dict[str, str]) -> None:
        """What an engine has already that another worker looked after, and from where."""
        self._found = dict(found)

    def reports(self, wanted: Iterable[WantedAdapter]) -> list[AdapterReport]:
        return [self._reports.get(one.name) or AdapterReport(name=one.name, state="pending") for one in wanted]

    def forget(self) -> None:
        """The engine that had them is gone."""
        self._tried.clear()
        self._reports.clear()

    async def largest_rank(self, wanted: Iterable[WantedAdapter]) -> int:
        """Of those that can be read; what is wrong with the others is said when they are loaded."""
        ranks = [0]
        for one in wanted:
            try:
                folder = await self._finder.adapter(one.model)
                ranks.append(await asyncio.to_thread(weights.adapter_rank, folder))
            except CannotServe:
                continue
        return max(ranks)

    async def match(self, wanted: list[WantedAdapter], client: EngineClient, base: Path, rank: int | None) -> None:
        """Until the engine has what is wanted. `rank`: the largest that it takes; None: it takes no adapter."""
        for name in set(self._found) - {one.name for one in wanted}:
            await client.unload(name)
            del self._found[name]
        identities = {one.name: _identity(one) for one in wanted}
        for name in [name for name, identity in self._tried.items() if identities.get(name) != identity]:
            if self._reports[name].state == "loaded":
                await client.unload(name)
                self._say(f"Adapter {name} is taken out of the engine.")
            del self._tried[name], self._reports[name]
        for one in wanted:
            if one.name not in self._tried:
                self._reports[one.name] = await self._load(one, client, base, rank)
                self._tried[one.name] = identities[one.name]

    async def _load(self, one: WantedAdapter, client: EngineClient, base: Path, rank: int | None) -> AdapterReport:
        try:
            if rank is None:
                raise weights.bad_adapter("the engine knows no adapters for this kind of model")
            folder = await self._finder.adapter(one.model)
            await asyncio.to_thread(weights.check_adapter, folder, base, rank)
            if (loaded := self._found.get(one.name)) is not None and loaded != str(folder):
                await client.unload(one.name)
            seconds = await client.load(one.name, folder)
            self._found.pop(one.name, None)
        except (CannotServe, AdapterRefused) as error:
            self._say(f"Adapter {one.name} is not loaded: {error}")
            return AdapterReport(name=one.name, model_id=_id(one), state="failed", message=str(error)[:2_000])
        self._say(f"Adapter {one.name} is loaded in {seconds:.2f} s.")
        return AdapterReport(name=one.name, model_id=_id(one), state="loaded", seconds=round(seconds, 3))


def _identity(one: WantedAdapter) -> str:
    registered = one.model.registered
    return f"{registered.id} {registered.sha256}" if registered is not None else one.model.named


def _id(one: WantedAdapter) -> str | None:
    return one.model.registered.id if one.model.registered is not None else None
