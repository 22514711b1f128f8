"""What there is to tell the control plane: counted in memory, written to disk in numbered parts, told until heard.

A part is on disk before it is told, and leaves it when it was applied. Its number and the life of this process go with
it, so that one that was told twice is applied once; what an earlier life left behind is told first.
"""

import asyncio
import os
import secrets
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from loguru import logger

from imts_shared.contracts.routes import Feedback
from imts_shared.contracts.usage import Used
from inference_service.gateway import metrics
from inference_service.gateway.control_plane import ControlPlane, Declined, Unanswered
from inference_service.gateway.counting import Tokens
from inference_service.gateway.logbook import Entry

FLUSH_SECONDS = 0.5
GATHER_SECONDS = 0.03
BEHIND_SECONDS = 5.0
FEW = 20
"""While parts wait to be heard, fewer and larger ones are written."""
AGAIN_SECONDS = 1.0
DAY_SECONDS = 86_400
MOST_WAITING = 20_000
MOST_LOGGED_BYTES = 64 * 2**20
PART_BYTES = 4 * 2**20
_Which = tuple[int, str, str, str, str]


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    failed: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    estimated: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class _Part:
    """A GatewayReport in pieces that are encoded already, one by one as they came: a part may hold thousands, and
    whoever encodes them all at once holds up every request meanwhile."""

    number: int
    used: list[bytes]
    decisions: list[bytes]
    feedback: list[bytes]
    entries: list[Entry]


class Ledger:
    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        self._control_plane = control_plane
        self._folder = folder
        self.life = f"{int(time.time())}-{secrets.token_hex(8)}"
        self._number = 0
        self._unwritten: _Part | None = None
        self._used: dict[_Which, _Sum] = {}
        self._decisions: list[bytes] = []
        self._feedback: list[bytes] = []
        self._requests: deque[Entry] = deque()
        self._requests_bytes = 0
        self._now = asyncio.Event()
        self._waiting: list[Path] = []
        self._written = asyncio.Event()
        self._writing = 0

    def count(
        self, key_id: str, project: str, model: str, upstream: str, tokens: Tokens, cost: float, *, failed: bool
    ) -> None:
        which = (int(time.time() // DAY_SECONDS), key_id, project, model, upstream)
        used = self._used.get(which)
        if used is None:
            used = self._used[which] = _Sum()
        used.requests += 1
        used.failed += failed
        used.input += tokens.input
        used.cached += tokens.cached
        used.output += tokens.output
        if not tokens.told:
            used.estimated += tokens.input + tokens.output
        used.cost += cost

    def decided(self, decision: bytes) -> None:
        """A contracts' Decision, as JSON."""
        _bounded(self._decisions, decision)

    def judged(self, feedback: Feedback) -> None:
        _bounded(self._feedback, feedback.model_dump_json(by_alias=True, exclude_none=True).encode())
        self.hurry()

    def logged(self, entry: Entry) -> None:
        self._requests.append(entry)
        self._requests_bytes += entry.size
        while self._requests_bytes > MOST_LOGGED_BYTES:
            self._requests_bytes -= self._requests.popleft().size
            metrics.NOT_KEPT.inc()

    def hurry(self) -> None:
        self._now.set()

    @property
    def untold(self) -> int:
        """Things that the control plane has not heard of, and parts of many."""
        things = len(self._used) + len(self._decisions) + len(self._feedback) + len(self._requests)
        return things + len(self._waiting) + self._writing

    async def start(self) -> None:
        self._waiting = await asyncio.to_thread(_left_behind, self._folder)

    async def follow(self) -> None:
        """Writes and tells for as long as the process lives."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._tell())
            written_at = 0.0
            while True:
                await _either(self._now, FLUSH_SECONDS)
                await asyncio.sleep(GATHER_SECONDS)
                self._now.clear()
                if len(self._waiting) > FEW and time.monotonic() - written_at < BEHIND_SECONDS:
                    continue
                written_at = time.monotonic()
                await self.write()

    async def close(self) -> None:
        """What is counted is on disk, and told if somebody hears it now."""
        await self.write()
        try:
            async with asyncio.timeout(2):
                while self._waiting and await self._tell_one():
                    pass
        except TimeoutError:
            return

    async def write(self) -> None:
        part = self._unwritten or self._taken()
        if part is None:
            return
        path = self._folder / f"{self.life}.{part.number:09d}.json"
        self._writing = 1
        try:
            await asyncio.to_thread(_write, path, self.life, part)
        except OSError as error:
            if self._unwritten is None:
                logger.error("usage not written to disk", path=str(path), problem=error.strerror)
            self._unwritten = part
            return
        self._unwritten, self._writing = None, 0
        self._waiting.append(path)
        self._written.set()

    def _taken(self) -> _Part | None:
        if not (self._used or self._decisions or self._feedback or self._requests):
            return None
        self._number += 1
        used = [_used(which, summed) for which, summed in self._used.items()]
        part = _Part(self._number, used, self._decisions, self._feedback, self._entries())
        self._used, self._decisions, self._feedback = {}, [], []
        return part

    def _entries(self) -> list[Entry]:
        """As many as one part may hold; the rest comes with the next."""
        taken: list[Entry] = []
        size = 0
        while self._requests and size < PART_BYTES:
            taken.append(self._requests.popleft())
            size += taken[-1].size
        self._requests_bytes -= size
        if self._requests:
            self.hurry()
        return taken

    async def _tell(self) -> None:
        while True:
            if not self._waiting:
                self._written.clear()
                await self._written.wait()
            elif not await self._tell_one():
                await asyncio.sleep(AGAIN_SECONDS)

    async def _tell_one(self) -> bool:
        path = self._waiting[0]
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            logger.error("usage not read from disk", path=str(path), problem=error.strerror)
            self._waiting.pop(0)
            return True
        try:
            answer = await self._control_plane.report(content)
        except Unanswered as error:
            logger.debug("usage not heard", problem=str(error))
            return False
        except Declined as error:
            logger.error("usage declined, kept aside", path=str(path), problem=str(error))
            metrics.PARTS_DECLINED.inc()
            path.replace(path.with_suffix(".declined"))
            self._waiting.pop(0)
            return True
        if answer.unknown_decisions:
            logger.info("feedback on unknown decisions", decisions=answer.unknown_decisions[:10])
        self._waiting.pop(0)
        path.unlink(missing_ok=True)
        return True


def _used(which: _Which, summed: _Sum) -> bytes:
    day, key_id, project, model, upstream = which
    used = Used(
        day=datetime.fromtimestamp(day * DAY_SECONDS, UTC).date(),
        key_id=key_id,
        project=project,
        model=model,
        upstream=upstream,
        requests=summed.requests,
        failed=summed.failed,
        input_tokens=summed.input,
        cached_tokens=summed.cached,
        output_tokens=summed.output,
        estimated_tokens=summed.estimated,
        cost=summed.cost,
    )
    return used.model_dump_json(by_alias=True, exclude_none=True).encode()


def _bounded(items: list[bytes], item: bytes) -> None:
    """What is only good to know is given up before memory runs out."""
    if len(items) >= MOST_WAITING:
        del items[0]
        metrics.NOT_KEPT.inc()
    items.append(item)


def _left_behind(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return sorted(folder.glob("*.json"))


def _write(path: Path, life: str, part: _Part) -> None:
    content = b'{"gateway":%b,"number":%d,"used":[%b],"decisions":[%b],"feedback":[%b],"requests":[%b]}' % (
        orjson.dumps(life),
        part.number,
        b",".join(part.used),
        b",".join(part.decisions),
        b",".join(part.feedback),
        b",".join([entry.made() for entry in part.entries]),
    )
    beside = path.with_suffix(".part")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    beside.replace(path)


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
