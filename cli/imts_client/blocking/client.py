"""`Client`: the whole API, one method a call."""

from types import TracebackType

from imts_client.blocking.access import Keys, Projects, Webhooks
from imts_client.blocking.datasets import Datasets
from imts_client.blocking.deployments import Deployments
from imts_client.blocking.gateway import Gateway
from imts_client.blocking.jobs import Jobs, Workers
from imts_client.blocking.models import Models
from imts_client.blocking.providers import Providers
from imts_client.blocking.routes import Routes, Routing
from imts_client.blocking.sweeps import Sweeps
from imts_client.blocking.tokens import Tokens
from imts_client.blocking.transport import Transport
from imts_client.blocking.usage import Usage
from imts_client.calls import access
from imts_client.where import find
from imts_shared.contracts.access import Identity


class Client:
    """Where the platform is and which key opens it: the arguments, else IMTS_URL and IMTS_API_KEY, else the
    platform of this machine. The gateway: `gateway_url`, else IMTS_GATEWAY_URL, else the one of this machine."""

    def __init__(self, url: str | None = None, key: str | None = None, *, gateway_url: str | None = None) -> None:
        where = find(url, key)
        self._transport = Transport(where)
        self._gateway = Gateway(where, gateway_url, key)
        self.jobs = Jobs(self._transport)
        self.workers = Workers(self._transport)
        self.datasets = Datasets(self._transport)
        self.models = Models(self._transport)
        self.deployments = Deployments(self._transport)
        self.sweeps = Sweeps(self._transport)
        self.providers = Providers(self._transport)
        self.routes = Routes(self._transport)
        self.routing = Routing(self._transport, self._gateway)
        self.usage = Usage(self._transport)
        self.keys = Keys(self._transport)
        self.projects = Projects(self._transport)
        self.tokens = Tokens(self._transport)
        self.webhooks = Webhooks(self._transport)

    def who_am_i(self) -> Identity:
        return self._transport.send(access.who_am_i())

    def close(self) -> None:
        self._transport.close()
        self._gateway.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
