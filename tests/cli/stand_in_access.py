"""The stand-in's keys, projects and webhooks."""

import uuid
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tests.cli.shapes import now, page

if TYPE_CHECKING:
    from tests.cli.stand_in import Platform


def add_access(app: FastAPI, platform: "Platform") -> None:
    @app.get("/api/me")
    async def me() -> Any:
        return {"keyId": "k", "role": "admin", "project": None}

    @app.post("/api/keys")
    async def create_key(request: Request) -> Any:
        body = await request.json()
        key = {"role": "member", "project": "default", "hint": "imts_ab", "createdAt": now(), "expiresAt": None} | body
        key["id"] = str(uuid.uuid4())
        platform.keys[key["id"]] = key
        return JSONResponse(key | {"key": "imts_ab_secret"}, 201)

    @app.get("/api/keys")
    async def keys(request: Request) -> Any:
        return page(list(platform.keys.values()), request)

    @app.delete("/api/keys/{key_id}")
    async def revoke(key_id: str) -> Any:
        platform.keys[key_id]["revokedAt"] = now()
        return platform.keys[key_id]

    @app.post("/api/projects")
    async def create_project(request: Request) -> Any:
        project = {"maxRunningJobs": None, "maxQueuedJobs": None, "createdAt": now()} | await request.json()
        platform.projects[project["name"]] = project
        return JSONResponse(project, 201)

    @app.get("/api/projects")
    async def projects(request: Request) -> Any:
        return page(list(platform.projects.values()), request)

    @app.patch("/api/projects/{name}")
    async def quota(name: str, request: Request) -> Any:
        platform.projects[name] |= await request.json()
        return platform.projects[name]

    @app.put("/api/projects/{project}/tokens/{name}")
    async def set_token(project: str, name: str, request: Request) -> Any:
        value = (await request.json())["value"]
        platform.tokens[project, name] = value
        return {"name": name, "setAt": now(), "setBy": "k", "hint": value[-4:], "problem": None}

    @app.get("/api/projects/{project}/tokens")
    async def tokens(project: str, request: Request) -> Any:
        names = [name for where, name in platform.tokens if where == project]
        return page([{"name": n, "setAt": now(), "setBy": "k", "hint": None, "problem": None} for n in names], request)

    @app.delete("/api/projects/{project}/tokens/{name}")
    async def delete_token(project: str, name: str) -> Any:
        del platform.tokens[project, name]
        return Response(status_code=204)

    @app.post("/api/webhooks")
    async def create_webhook(request: Request) -> Any:
        hook = {"states": ["succeeded"], "kinds": [], "project": "default", "createdAt": now()} | await request.json()
        hook["id"] = str(uuid.uuid4())
        platform.webhooks[hook["id"]] = hook
        return JSONResponse(hook | {"secret": "whsec_abc"}, 201)

    @app.get("/api/webhooks")
    async def webhooks(request: Request) -> Any:
        return page(list(platform.webhooks.values()), request)

    @app.delete("/api/webhooks/{webhook_id}")
    async def delete_webhook(webhook_id: str) -> Any:
        del platform.webhooks[webhook_id]
        return Response(status_code=204)

    @app.get("/api/webhooks/{webhook_id}/deliveries")
    async def deliveries(webhook_id: str, request: Request) -> Any:
        one = {
            "id": "d1", "state": "failed", "event": {}, "tries": 2, "nextTryAt": None, "lastStatus": 500,
            "lastError": None, "createdAt": now(), "deliveredAt": None,
        }  # fmt: skip
        return page([one], request)

    @app.post("/api/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver")
    async def redeliver(webhook_id: str, delivery_id: str) -> Any:
        return Response(status_code=204)
