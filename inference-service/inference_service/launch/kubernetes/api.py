"""The few calls of a cluster's API that the launcher makes, and what their failures mean."""

import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, TypeVar

import aiohttp
from kubernetes_asyncio import client
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.incluster_config import InClusterConfigLoader

from imts_shared.contracts.deployments import DeploymentReason
from imts_shared.settings import SettingsFileError
from inference_service.launch.kubernetes.objects import CONTAINER, Object
from inference_service.settings import InferenceSettings
from inference_service.trouble import CannotServe

SECONDS = 10.0
TAIL_LINES = 200
_Answer = TypeVar("_Answer")


class ClusterAway(Exception):
    """The API did not answer, or not as it should; it may yet."""


class Taken(Exception):
    """An object of that name is there already."""


class Api:
    """Everything in one namespace, with the service account's token, which is read anew as it is renewed."""

    def __init__(self, configuration: client.Configuration, namespace: str) -> None:
        self.namespace = namespace
        self._http = client.ApiClient(configuration)
        self._apps: Any = client.AppsV1Api(self._http)
        self._core: Any = client.CoreV1Api(self._http)
        """Typed for models, which are not used here: see _RAW."""

    async def close(self) -> None:
        await self._http.close()

    async def create_service(self, body: Object) -> Object:
        call = self._core.create_namespaced_service(self.namespace, body, **_RAW)
        return await _object(call, "create", "services")

    async def create_deployment(self, body: Object) -> Object:
        call = self._apps.create_namespaced_deployment(self.namespace, body, **_RAW)
        return await _object(call, "create", "deployments.apps")

    async def service(self, name: str) -> Object | None:
        return await _maybe(self._core.read_namespaced_service(name, self.namespace, **_RAW), "get", "services")

    async def deployment(self, name: str) -> Object | None:
        call = self._apps.read_namespaced_deployment(name, self.namespace, **_RAW)
        return await _maybe(call, "get", "deployments.apps")

    async def delete_service(self, name: str) -> None:
        await _maybe(self._core.delete_namespaced_service(name, self.namespace, **_RAW), "delete", "services")

    async def delete_deployment(self, name: str) -> None:
        call = self._apps.delete_namespaced_deployment(name, self.namespace, propagation_policy="Background", **_RAW)
        await _maybe(call, "delete", "deployments.apps")

    async def services(self, labels: Mapping[str, str]) -> list[Object]:
        call = self._core.list_namespaced_service(self.namespace, label_selector=_selector(labels), **_RAW)
        return _items(await _object(call, "list", "services"))

    async def deployments(self, labels: Mapping[str, str]) -> list[Object]:
        call = self._apps.list_namespaced_deployment(self.namespace, label_selector=_selector(labels), **_RAW)
        return _items(await _object(call, "list", "deployments.apps"))

    async def pods(self, labels: Mapping[str, str]) -> list[Object]:
        call = self._core.list_namespaced_pod(self.namespace, label_selector=_selector(labels), **_RAW)
        return _items(await _object(call, "list", "pods"))

    async def warning(self, pod: str) -> str | None:
        """The newest that the cluster warns of about a pod."""
        selector = f"involvedObject.name={pod},type=Warning"
        call = self._core.list_namespaced_event(self.namespace, field_selector=selector, **_RAW)
        events = _items(await _object(call, "list", "events"))
        last = max(events, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""), default=None)
        return None if last is None else f"{last.get('reason')}: {last.get('message')}"

    async def last_lines(self, pod: str, *, before: bool) -> list[str]:
        """Of the container, or of the one before it."""
        call = self._core.read_namespaced_pod_log(
            pod, self.namespace, container=CONTAINER, previous=before, tail_lines=TAIL_LINES, timestamps=True, **_RAW
        )
        try:
            text = await _heard(call, "get", "pods/log")
        except _Gone:
            return []
        return text.decode("utf-8", "replace").splitlines()

    async def lines(self, pod: str, since_seconds: int | None) -> AsyncIterator[bytes]:
        """A container's output as it comes, each line behind the moment that it was written at."""
        more = {} if since_seconds is None else {"since_seconds": since_seconds}
        call = self._core.read_namespaced_pod_log(
            pod, self.namespace, container=CONTAINER, follow=True, timestamps=True, _preload_content=False,
            _request_timeout=aiohttp.ClientTimeout(sock_connect=SECONDS), **more,
        )  # fmt: skip
        try:
            async with await call as answer:
                if answer.status in (400, 404):
                    raise ClusterAway("there is no container to hear yet, or none any more")
                if answer.status != 200:
                    raise _trouble(answer.status, await answer.read(), "get", "pods/log")
                rest = b""
                async for data in answer.content.iter_any():
                    *whole, rest = (rest + data).split(b"\n")
                    for line in whole:
                        yield line
                if rest:
                    yield rest
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ClusterAway(f"{type(error).__name__} {error}") from error


def configuration(rules: InferenceSettings) -> tuple[client.Configuration, str]:
    """To speak as the pod's service account, and its namespace. Only the worker asks for it: the gateway may be given
    the same settings."""
    for value, what in (
        (rules.engine_image, "IMTS_ENGINE_IMAGE: the image that engines run in, in practice this worker's own"),
        (rules.engine_claim, "IMTS_ENGINE_CLAIM: the claim of the volume that this worker has mounted as its home"),
    ):
        if not value:
            raise SettingsFileError(f"IMTS_LAUNCHER is kubernetes, which also needs {what}.")
    account = rules.kubernetes_account
    found = client.Configuration()
    found.connection_pool_maxsize = 0  # no limit: each engine's log is a request that stays open
    try:
        InClusterConfigLoader(str(account / "token"), str(account / "ca.crt")).load_and_set(found)
        return found, (account / "namespace").read_text().strip()
    except (ConfigException, OSError) as error:
        raise SettingsFileError(
            f"IMTS_LAUNCHER is kubernetes, and there is no service account to speak to a cluster with ({error})."
            " Run the worker in a pod that has one mounted, or leave IMTS_LAUNCHER out."
        ) from error


def connect(rules: InferenceSettings) -> Api:
    return Api(*configuration(rules))


_RAW: dict[str, Any] = {"_preload_content": False, "_request_timeout": SECONDS}
"""Objects as they come: the library's models are many and slow, and what is new in a cluster they do not know."""


async def _heard(call: Awaitable[aiohttp.ClientResponse], verb: str, resource: str) -> bytes:
    try:
        async with await call as answer:
            content = await answer.read()
            status = answer.status
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ClusterAway(f"{type(error).__name__} {error}") from error
    except ApiException as error:
        raise ClusterAway(str(error.reason)) from error
    if not 200 <= status < 300:
        raise _trouble(status, content, verb, resource)
    return content


async def _object(call: Awaitable[aiohttp.ClientResponse], verb: str, resource: str) -> Object:
    found: Object = json.loads(await _heard(call, verb, resource))
    return found


class _Gone(Exception):
    """There is no such object."""


async def _maybe(call: Awaitable[aiohttp.ClientResponse], verb: str, resource: str) -> Object | None:
    try:
        return await _object(call, verb, resource)
    except _Gone:
        return None


def _trouble(status: int, content: bytes, verb: str, resource: str) -> Exception:
    try:
        words = str(json.loads(content).get("message") or "")
    except (ValueError, AttributeError):
        words = content.decode("utf-8", "replace")[:300]
    if status == 404 or (status == 400 and resource == "pods/log"):
        return _Gone()
    if status == 409:
        return Taken(words)
    if status == 403 and "exceeded quota" in words:
        return CannotServe(DeploymentReason.no_room, f"The namespace's quota has no room: {words}", "Raise it.")
    if status == 401:
        return ClusterAway(f"it does not take the service account's token now: {words}")
    if status == 403:
        return CannotServe(
            DeploymentReason.engine_error,
            f"The cluster does not let this worker {verb} {resource}: {words}",
            "Give its service account the role of docs/serving.md (On Kubernetes).",
        )
    if status in (400, 422):
        return CannotServe(DeploymentReason.engine_error, f"The cluster refuses to {verb} {resource}: {words}")
    return ClusterAway(f"it answers {status}: {words}")


def _items(listed: Object) -> list[Object]:
    return list(listed.get("items") or ())


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())
