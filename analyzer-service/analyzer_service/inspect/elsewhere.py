"""Inspecting a large file in a process of its own, so that the api goes on answering."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE

from imts_shared.contracts.datasets import Inspection, InspectRequest


class InspectionDied(Exception):
    """The process ended without an inspection; what it had to say stands in the log."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the inspection ended with {status}")
        self.for_good = status == 1
        """Killed from outside, or without its storage, it may succeed another time."""


async def inspect_elsewhere(request: InspectRequest) -> Inspection:
    command = (sys.executable, "-m", "analyzer_service.inspect")
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(request.model_dump_json().encode() + b"\n")
            await process.stdin.drain()
        said = await process.stdout.read()
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status != 0:
        raise InspectionDied(status)
    return Inspection.model_validate_json(said)
