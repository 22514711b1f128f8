"""A head is written with what follows it, and is never held for good."""

import asyncio
from typing import Any

import pytest

from inference_service.gateway.together import LARGE, Together

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Written(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def written() -> Written:
    return Written()


def test_a_head_goes_out_with_the_beginning_of_its_body(written: Written) -> None:
    together = Together(written)
    together.hold()
    together.write(HEAD)
    assert written.writes == []
    together.write(b"one")
    together.write(b"two")
    assert written.writes == [HEAD + b"one", b"two"]


def test_nothing_is_held_that_nobody_said_to_hold(written: Written) -> None:
    together = Together(written)
    together.write(HEAD)
    assert written.writes == [HEAD], "a body may begin like a head"


def test_a_head_alone(written: Written) -> None:
    together = Together(written)
    together.hold()
    together.write(HEAD)
    together.write(b"")
    assert written.writes == [HEAD]


def test_a_large_body_is_not_copied_for_it(written: Written) -> None:
    together = Together(written)
    together.hold()
    together.write(HEAD)
    body = bytes(LARGE + 1)
    together.write(body)
    assert written.writes == [HEAD, body]


def test_what_is_held_goes_out_before_the_end(written: Written) -> None:
    together = Together(written)
    together.hold()
    together.write(HEAD)
    together.close()
    assert (written.writes, together.is_closing()) == ([HEAD], True)
