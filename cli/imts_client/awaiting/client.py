"""`AsyncClient`: the whole API, one method a call."""

from types import TracebackType

from imts_client.awaiting.access import AsyncKeys, AsyncProjects, AsyncWebhooks
from imts_client.awaiting.datasets import AsyncDatasets
from imts_client.awaiting.deployments import AsyncDeployments
from imts_client.awaiting.gateway import AsyncGateway
from imts_client.awaiting.jobs import AsyncJobs, AsyncWorkers
from imts_client.awaiting.models import AsyncModels
from imts_client.awaiting.providers import AsyncProviders
from imts_client.awaiting.routes import AsyncRoutes, AsyncRouting
from imts_client.awaiting.sweeps import AsyncSweeps
from imts_client.awaiting.tokens import AsyncTokens
from imts_client.awaiting.transport import AsyncTransport
from imts_client.awaiting.usage import AsyncUsage
from imts_client.calls import access
from imts_client.where import find
from imts_shared.contracts.access import Identity


class AsyncClient:
    """Where the platform is and which key opens it: the arguments, else IMTS_URL and IMTS_API_KEY, else the
    platform of this machine. The gateway: `gateway_url`, else IMTS_GATEWAY_URL, else the one of this machine."""

    def __init__(self, url: str | None = None, key: str | None = None, *, gateway_url: str | None = None) -> None:
        where = find(url, key)
        self._transport = AsyncTransport(where)
        self._gateway = AsyncGateway(where, gateway_url, key)
        self.jobs = AsyncJobs(self._transport)
        self.workers = AsyncWorkers(self._transport)
        self.datasets = AsyncDatasets(self._transport)
        self.models = AsyncModels(self._transport)
        self.deployments = AsyncDeployments(self._transport)
        self.sweeps = AsyncSweeps(self._transport)
        self.providers = AsyncProviders(self._transport)
        self.routes = AsyncRoutes(self._transport)
        self.routing = AsyncRouting(self._transport, self._gateway)
        self.usage = AsyncUsage(self._transport)
        self.keys = AsyncKeys(self._transport)
        self.projects = AsyncProjects(self._transport)
        self.tokens = AsyncTokens(self._transport)
        self.webhooks = AsyncWebhooks(self._transport)

    async def who_am_i(self) -> Identity:
        return await self._transport.send(access.who_am_i())

    async def close(self) -> None:
        await self._transport.close()
        await self._gateway.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
