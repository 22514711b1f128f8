"""A model that is asked which model shall answer, where the statistics leave it open: bounded in time, and in vain
without harm."""

import asyncio
from typing import Any

import numpy as np
import orjson
from loguru import logger

from imts_shared.contracts import routes
from inference_service.gateway.answers import Garbled
from inference_service.gateway.bodies import guessed_prompt
from inference_service.gateway.claims import Claims, OnBehalf
from inference_service.gateway.connection import Broken, Unreachable
from inference_service.gateway.connections import Connections
from inference_service.gateway.counting import Tokens, tokens
from inference_service.gateway.directory import Directory
from inference_service.gateway.errors import Lost, Refusal
from inference_service.gateway.exchange import request_head
from inference_service.gateway.orders import CHAT, Order, Speech
from inference_service.gateway.speech import speech
from inference_service.gateway.targets import Target
from inference_service.gateway.waiting import Waiting
from inference_service.routing import judging
from inference_service.routing.content import asked
from inference_service.routing.decision import Decision
from inference_service.routing.features import Features

LARGEST_ANSWER = 64 * 2**10


class Judge:
    def __init__(self, directory: Directory, waiting: Waiting, connections: Connections, claims: Claims) -> None:
        self._directory = directory
        self._waiting = waiting
        self._connections = connections
        self._claims = claims
        self._random = np.random.default_rng()

    async def judged(
        self,
        of: OnBehalf,
        settings: routes.Judge,
        choice: Decision,
        features: Features,
        content: dict[str, Any],
    ) -> Decision:
        """The decision as it was, where no verdict comes in time, or none can be paid for."""
        try:
            async with asyncio.timeout(settings.timeout_ms / 1000):
                query = asked(content).text
                messages = judging.judge_messages(query, features, choice.candidates)
                said = await self._said(of, settings.model, messages)
        except (TimeoutError, Unreachable, Broken, Refusal, Lost, Garbled, ValueError) as error:
            logger.info("no verdict", judge=settings.model, problem=str(error) or type(error).__name__)
            return choice
        model = judging.judged_model(said, [one.model for one in choice.candidates])
        return choice if model is None else judging.with_judgement(choice, model, self._random)

    async def _said(self, of: OnBehalf, name: str, messages: list[dict[str, Any]]) -> str:
        model = self._directory.find(of.caller, name)
        target = await self._waiting.target(model, CHAT, patient=False)
        body: dict[str, Any] = {
            "model": name,
            "messages": messages,
            "max_tokens": judging.ANSWER_TOKENS,
            "temperature": 0,
        }
        order = Order(CHAT, {"content-type": "application/json"}, orjson.dumps(body), body, False, name, "judge")
        told = speech(order, target)
        given = guessed_prompt(order.body)
        claim = await self._claims.claim(of, name, target, given, judging.ANSWER_TOKENS)
        probed = target.begin()
        used = Tokens(given)
        try:
            answer = orjson.loads(told.whole(await self._whole(target, told))[0])
            used = tokens(answer.get("usage")) or used
            return str(answer["choices"][0]["message"].get("content") or "")
        except (Unreachable, Lost):
            used = Tokens()
            raise
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError("the judge's answer is no chat completion") from error
        finally:
            target.end(probed=probed)
            claim.settle(used)

    async def _whole(self, target: Target, told: Speech) -> bytes:
        connection = await self._connections.take(target.origin)
        try:
            connection.ask(request_head(target, told), told.body, lambda _: LARGEST_ANSWER)
            content = await connection.beginning()
            if connection.status != 200 or not connection.ended:
                raise Lost(f"the judge answered {connection.status}, with {len(content)} bytes or more")
            return content
        finally:
            self._connections.done(target.origin, connection)
