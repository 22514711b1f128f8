"""A program that runs to its end: an installer, a script in the engine's environment."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress

from imts_shared.contracts.deployments import DeploymentReason
from inference_service.trouble import CannotServe


async def run(
    command: list[str], environment: Mapping[str, str], say: Callable[[str], None], given: bytes = b""
) -> list[str]:
    """The lines of its standard output; those of its standard error are told as they come."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise CannotServe(
            DeploymentReason.engine_missing, f"{command[0]} cannot be run: {error.strerror}.", "See IMTS_ENGINE_PYTHON."
        ) from error
    try:
        told, said = await _listen(process, say, given)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    if await process.wait():
        why = next((line for line in reversed(said) if line), "it gave no reason")
        raise CannotServe(
            DeploymentReason.engine_missing, f"vLLM's environment is not right: {why}", "The log has what was said."
        )
    return told


async def _listen(
    process: asyncio.subprocess.Process, say: Callable[[str], None], given: bytes
) -> tuple[list[str], list[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(given)
    process.stdin.close()
    said: list[str] = []

    async def hear(errors: asyncio.StreamReader) -> None:
        rest = b""
        while data := await errors.read(65_536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace").rpartition("\r")[2].strip()
                if text:
                    said.append(text)
                    say(text)

    told, _ = await asyncio.gather(process.stdout.read(), hear(process.stderr))
    return told.decode("utf-8", "replace").split("\n")[:-1], said
