"""OpenAI's own client, as it comes."""

import pytest

from tests.gateway.conftest import Served
from tests.gateway.engines import engine, wire
from tests.gateway.platform_side import MEMBER, served
from tests.gateway.test_failing_engines import cuts_mid_stream

openai = pytest.importorskip("openai")

HELLO = [{"role": "user", "content": "Hello"}]


def _client(door: Served, key: str = MEMBER) -> "openai.AsyncOpenAI":
    return openai.AsyncOpenAI(base_url=f"{door.gateway.url}/v1", api_key=key, max_retries=0)


async def test_whole_and_streamed_answers_and_the_list_of_models(door: Served) -> None:
    async with engine("one") as one, _client(door) as client:
        await door.serve(served("tiny", one.url))
        answer = await client.chat.completions.create(model="tiny", messages=HELLO)
        assert (answer.choices[0].message.content, answer.usage.total_tokens) == ("I am one.", 5)
        stream = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
        assert [piece.choices[0].delta.content async for piece in stream] == [f"{n} " for n in range(5)]
        assert [model.id async for model in client.models.list()] == ["tiny"]
        assert (await client.models.retrieve("tiny")).owned_by == "default"


async def test_errors_are_the_exceptions_that_it_knows(door: Served) -> None:
    async with engine() as one, _client(door) as client, _client(door, "wrong") as stranger:
        await door.serve(served("tiny", one.url), served("broken", state="failed", message="Damaged."))
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.chat.completions.create(model="tinny", messages=HELLO)
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(model="tiny", messages=HELLO)
        with pytest.raises(openai.InternalServerError, match=r"Damaged\."):
            await client.chat.completions.create(model="broken", messages=HELLO)


async def test_a_cut_stream_is_an_exception(door: Served) -> None:
    async with wire(cuts_mid_stream) as bad, _client(door) as client:
        await door.serve(served("tiny", bad.url))
        stream = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
        assert (await anext(stream)).id == "cut"
        with pytest.raises(Exception, match=r"(?i)incomplete|peer closed|connection|broke off"):
            await anext(stream)
