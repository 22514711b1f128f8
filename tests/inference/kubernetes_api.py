"""A cluster's API over real TLS, with the checks of a real one: who asks, whether its role allows it, and whether each
object is what Kubernetes' own schemas say. Behind it `kubernetes_node` makes the objects come true."""

import asyncio
import datetime
import ipaddress
import json
import re
import ssl
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import kubernetes_validate
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.inference.kubernetes_node import LOOK, Node, Pod, now

NAMESPACE = "serving"
DOCUMENT = Path(__file__).parents[2] / "docs" / "serving.md"
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def role() -> set[tuple[str, str]]:
    """Verbs and resources of the role that the documentation tells to give, and no more."""
    block = next(
        part for part in re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "kind: Role" in part
    )
    content = yaml.safe_load(block)
    kubernetes_validate.validate(content, str(kubernetes_validate.latest_version()), strict=True)
    return {(verb, name) for rule in content["rules"] for name in rule["resources"] for verb in rule["verbs"]}


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Cluster:
    def __init__(self, account: Path) -> None:
        self.account = account
        self.role = role()
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.made: list[dict[str, Any]] = []
        """Every object that was ever accepted."""
        self.asked: set[tuple[str, str]] = set()
        self.events: list[dict[str, Any]] = []
        self.away = False
        self.token = ""
        account.mkdir(parents=True)
        scratch = account.with_name("pods")
        scratch.mkdir()
        self.node = Node(scratch)
        (account / "namespace").write_text(NAMESPACE)
        self.new_token()
        self._loop = asyncio.new_event_loop()
        self._version = 0
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    @property
    def environment(self) -> dict[str, str]:
        """Of a worker in a pod of this cluster."""
        return {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.port),
            "IMTS_KUBERNETES_ACCOUNT": str(self.account),
            "NO_PROXY": "*",
            "no_proxy": "*",
        }

    def new_token(self) -> None:
        self.token = f"token-{uuid4()}"
        (self.account / "token").write_text(self.token)

    def do(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(30)

    def there(self, kind: str) -> list[dict[str, Any]]:
        return [body for (of, _), body in list(self.objects.items()) if of == kind]

    def pods(self) -> list[Pod]:
        return list(self.node.pods.values())

    def pod(self) -> Pod:
        (pod,) = self.pods()
        return pod

    def close(self) -> None:
        self.away = True
        self.do(self.node.close)
        self.do(self._runner.cleanup)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        started.set()
        self._loop.run_forever()

    async def _listen(self) -> None:
        app = web.Application(middlewares=[self._checked])
        core, apps = f"/api/v1/namespaces/{NAMESPACE}", f"/apis/apps/v1/namespaces/{NAMESPACE}"
        for base, kind in ((core, "services"), (apps, "deployments"), (core, "pods"), (core, "events")):
            app.router.add_get(f"{base}/{{kind:{kind}}}", self._list)
        for base, kind in ((core, "services"), (apps, "deployments")):
            app.router.add_post(f"{base}/{{kind:{kind}}}", self._create)
            app.router.add_get(f"{base}/{{kind:{kind}}}/{{name}}", self._get)
            app.router.add_delete(f"{base}/{{kind:{kind}}}/{{name}}", self._delete)
        app.router.add_get(f"{core}/{{kind:pods}}/{{name}}/{{sub:log}}", self._log)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=_certificate(self.account))
        await site.start()
        self.port: int = self._runner.addresses[0][1]

    @web.middleware
    async def _checked(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.away:
            assert request.transport is not None
            request.transport.close()
        try:
            kind = request.match_info.get("kind", "")
            resource = f"{kind}/log" if "sub" in request.match_info else kind
            verb = {"POST": "create", "DELETE": "delete"}.get(request.method, "get")
            verb = "list" if verb == "get" and "name" not in request.match_info else verb
            if request.headers.get("authorization") != f"Bearer {self.token}":
                raise Refused(401, "Unauthorized")
            self.asked.add((verb, resource))
            if (verb, resource) not in self.role:
                group = 'API group "apps"' if kind == "deployments" else 'API group ""'
                raise Refused(
                    403,
                    f'{resource} is forbidden: User "system:serviceaccount:{NAMESPACE}:worker" cannot {verb} resource'
                    f' "{resource}" in {group} in the namespace "{NAMESPACE}"',
                )
            answer: web.StreamResponse = await handler(request)
            return answer
        except Refused as refused:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": str(refused)}
            return web.json_response({**status, "code": refused.status}, status=refused.status)

    async def _create(self, request: web.Request) -> web.Response:
        kind, body = request.match_info["kind"], await request.json()
        name = body["metadata"]["name"]
        _check(body)
        if (kind, name) in self.objects:
            raise Refused(409, f'{kind} "{name}" already exists')
        self._version += 1
        body["metadata"] |= {"uid": str(uuid4()), "creationTimestamp": now(), "resourceVersion": str(self._version)}
        self.made.append(json.loads(json.dumps(body)))
        self.objects[kind, name] = body
        if kind == "services":
            body["spec"]["clusterIP"] = self.node.address()
            self.node.add_service(body)
        else:
            self.node.add_deployment(body)
        return web.json_response(body, status=201)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._one(request))

    async def _delete(self, request: web.Request) -> web.Response:
        body, kind = self._one(request), request.match_info["kind"]
        name = body["metadata"]["name"]
        del self.objects[kind, name]
        await (self.node.remove_service(name) if kind == "services" else self.node.remove_deployment(name))
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    async def _list(self, request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        if kind == "events":
            wanted = dict(part.split("=") for part in request.query["fieldSelector"].split(","))
            items = [one for one in self.events if one["involvedObject"]["name"] == wanted["involvedObject.name"]]
        else:
            selector = dict(part.split("=") for part in request.query["labelSelector"].split(","))
            found = [pod.body for pod in self.pods()] if kind == "pods" else self.there(kind)
            items = [one for one in found if selector.items() <= one["metadata"]["labels"].items()]
        return web.json_response({"kind": "List", "metadata": {"resourceVersion": str(self._version)}, "items": items})

    def _one(self, request: web.Request) -> dict[str, Any]:
        kind, name = request.match_info["kind"], request.match_info["name"]
        if (kind, name) not in self.objects:
            raise Refused(404, f'{kind} "{name}" not found')
        return self.objects[kind, name]

    async def _log(self, request: web.Request) -> web.StreamResponse:
        pod = self.node.pods.get(request.match_info["name"])
        if pod is None:
            raise Refused(404, "there is no such pod")
        previous = request.query.get("previous") == "True"
        if len(pod.logs) <= previous or not pod.body["status"]["containerStatuses"]:
            raise Refused(400, "there is no such container")
        lines = pod.logs[-2 if previous else -1]
        since = ""
        if "sinceSeconds" in request.query:
            before = datetime.timedelta(seconds=int(request.query["sinceSeconds"]))
            since = (datetime.datetime.now(datetime.UTC) - before).isoformat()
        answer = web.StreamResponse()
        await answer.prepare(request)
        sent = 0
        while request.transport is not None and not request.transport.is_closing():
            new, sent = [line for line in lines[sent:] if line > since], len(lines)
            with suppress(ConnectionResetError):
                await answer.write("".join(f"{line}\n" for line in new).encode())
            over = pod.logs[-1] is not lines or "running" not in pod.body["status"]["containerStatuses"][0]["state"]
            if request.query.get("follow") != "True" or self.away or (over and sent == len(lines)):
                return answer
            await asyncio.sleep(LOOK)
        return answer


def _check(body: dict[str, Any]) -> None:
    """What the schemas say, and what they leave to the server."""
    try:
        kubernetes_validate.validate(body, str(kubernetes_validate.latest_version()), strict=True)
    except kubernetes_validate.ValidationError as error:
        raise Refused(422, f"invalid: {error.message}") from error
    name, labels = body["metadata"]["name"], dict(body["metadata"]["labels"])
    template = body["spec"].get("template")
    if template is not None:
        labels |= template["metadata"]["labels"]
        if not body["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items():
            raise Refused(422, "selector does not match template labels")
    if not _DNS_1035.fullmatch(name) or any(not _LABEL.fullmatch(value) for value in labels.values()):
        raise Refused(422, f"invalid name or label: {name} {labels}")


def _certificate(account: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster of the tests")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (account / "ca.crt").write_bytes(pem)
    private = account.with_name("server.pem")
    private.write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(private)
    return context
