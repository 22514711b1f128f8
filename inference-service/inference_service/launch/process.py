"""An engine as a child of this worker: its own process group, under a guard that ends it with the worker."""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from imts_shared.worker import guard
from imts_shared.worker.guard import Command
from imts_shared.worker.lines import LineSplitter

TAIL = 200
CHUNK = 65_536
TERM_SECONDS = 10.0


class EngineProcess:
    """Started by `start`; over when `wait` returns. Nothing of it is left then, nor when this process is gone."""

    def __init__(self, process: asyncio.subprocess.Process, pid: int, on_line: Callable[[bytes], str]) -> None:
        self.pid = pid
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._process = process
        self._on_line = on_line
        self._reader = asyncio.create_task(self._read(), name=f"engine-{pid}-lines")

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        """The engine's exit code; negative where a signal ended it."""
        code = await self._process.wait()
        await self._reader
        return code

    def kill(self) -> None:
        self._tell(Command.kill)

    async def end(self) -> None:
        """Asks it to end, and ends it when it does not."""
        self._tell(Command.terminate)
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), TERM_SECONDS)
        except TimeoutError:
            self.kill()
        await self.wait()

    def _tell(self, command: Command) -> None:
        assert self._process.stdin is not None
        with suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(command.value)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        splitter = LineSplitter("log")
        while data := await self._process.stdout.read(CHUNK):
            for line in splitter.feed(data):
                self.tail.append(self._on_line(line))
        for line in splitter.finish():
            self.tail.append(self._on_line(line))


async def start(
    command: list[str], environment: Mapping[str, str], folder: Path, on_line: Callable[[bytes], str]
) -> EngineProcess:
    """`on_line` takes each line as imts_shared.worker.lines encodes it, and gives back its text."""
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            guard.__file__,
            str(writing),
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            pass_fds=(writing,),
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    with os.fdopen(reading) as told:
        pid = await asyncio.to_thread(told.readline)
    return EngineProcess(process, int(pid or process.pid), on_line)
