"""An engine as a child of this worker: its own process group, under a guard that ends it with the worker."""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

from imts_shared.worker import guard
from imts_shared.worker.guard import Command
from imts_shared.worker.lines import LineSplitter
from imts_shared.worker.memory import oom_kills
from inference_service.launch.launcher import Ended

TAIL = 200
MEMORY_STEP = 16 * 2**20
"""A change that is smaller is no news."""
CHUNK = 65_536
TERM_SECONDS = 10.0


class EngineProcess:
    """Started by `start`; over when `wait` returns. Nothing of it is left then, nor when this process is gone."""

    def __init__(
        self, process: asyncio.subprocess.Process, pid: int, on_line: Callable[[bytes], str], url: str, address: str
    ) -> None:
        self.pid = pid
        self.url = url
        self.address = address
        self.started_at = datetime.now(UTC)
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._oom_kills = oom_kills()
        self._process = process
        self._on_line = on_line
        self._reader = asyncio.create_task(self._read(), name=f"engine-{pid}-lines")

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def placed(self) -> None:
        """It was given room before it was started."""

    async def wait(self) -> Ended:
        code = await self._process.wait()
        if code == -signal.SIGKILL:  # the guard's own end, perhaps: what it cannot end any more holds the pipe open
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        await self._reader
        return Ended(code, killed_for_memory=oom_kills() > self._oom_kills)

    async def memory(self) -> int | None:
        return await asyncio.to_thread(self._used)

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

    async def leave(self) -> None:
        await self.end()

    def _used(self) -> int | None:
        """What its processes share is divided among them."""
        try:
            engine = psutil.Process(self.pid)
            members = [engine, *engine.children(recursive=True)]
            used = sum(int(one.memory_full_info().pss) for one in members)
            return -(-used // MEMORY_STEP) * MEMORY_STEP
        except (psutil.Error, AttributeError, OSError):
            return None

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
    command: list[str],
    environment: Mapping[str, str],
    folder: Path,
    on_line: Callable[[bytes], str],
    url: str,
    address: str,
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
    return EngineProcess(process, int(pid or process.pid), on_line, url, address)
