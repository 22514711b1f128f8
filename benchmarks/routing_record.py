"""Asks served models the prompts of BFCL and records whether each was right, by its own checker.

python benchmarks/routing_record.py WHEEL TABLE --url http://127.0.0.1:8004/v1 --key KEY --models bot support ...
    [--ids ids.json] [--prompts 1000] [--at-once 16] [--max-tokens 96]

Every prompt goes to every model, in chunks, so that a table that was broken off is whole as far as it goes; a second
run goes on where it ended. A row is {"id", "outcomes": {model: [right, seconds, prompt tokens, answer tokens]}}."""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
from bfcl import Call, Entry, entries, right

CHUNK = 64
SECONDS = 3600.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("wheel", type=Path)
    arguments.add_argument("table", type=Path)
    arguments.add_argument("--url", required=True)
    arguments.add_argument("--key", default="none")
    arguments.add_argument("--models", nargs="+", required=True)
    arguments.add_argument("--ids", type=Path, help="a JSON list of prompts' ids, in the order in which to ask them")
    arguments.add_argument("--prompts", type=int, help="no more than these")
    arguments.add_argument("--at-once", type=int, default=16)
    arguments.add_argument("--max-tokens", type=int, default=96)
    asyncio.run(_record(arguments.parse_args()))


async def _record(given: argparse.Namespace) -> None:
    every = {entry.id: entry for entry in entries(given.wheel)}
    wanted = json.loads(given.ids.read_text()) if given.ids else list(every)
    done = {json.loads(line)["id"] for line in given.table.read_text().splitlines()} if given.table.exists() else set()
    left = [every[each] for each in wanted[: given.prompts] if each not in done]
    gate = asyncio.Semaphore(given.at_once)
    async with httpx.AsyncClient(
        base_url=given.url.rstrip("/") + "/", headers={"authorization": f"Bearer {given.key}"}, timeout=SECONDS
    ) as client:
        for first in range(0, len(left), CHUNK):
            chunk = left[first : first + CHUNK]
            outcomes: dict[str, dict[str, list[Any]]] = {entry.id: {} for entry in chunk}
            for model in given.models:
                asked = [_ask(client, gate, given, model, entry) for entry in chunk]
                for entry, outcome in zip(chunk, await asyncio.gather(*asked), strict=True):
                    outcomes[entry.id][model] = outcome
            with given.table.open("a") as table:
                for entry in chunk:
                    row = {"id": entry.id, "outcomes": outcomes[entry.id]}
                    table.write(json.dumps(row, separators=(",", ":")) + "\n")
            print(first + len(chunk), "of", len(left), flush=True)


async def _ask(
    client: httpx.AsyncClient, gate: asyncio.Semaphore, given: argparse.Namespace, model: str, entry: Entry
) -> list[Any]:
    async with gate:
        began = time.perf_counter()
        answer = await client.post(
            "chat/completions",
            json={"model": model, **entry.body(), "temperature": 0, "max_tokens": given.max_tokens},
        )
        seconds = time.perf_counter() - began
    if answer.is_error:
        raise SystemExit(f"{model} refused {entry.id}: {answer.text[:500]}")
    said = answer.json()
    good = right(given.wheel, entry, _calls(said["choices"][0]["message"]))
    usage = said["usage"]
    return [int(good), round(seconds, 2), usage["prompt_tokens"], usage["completion_tokens"]]


def _calls(message: dict[str, Any]) -> list[Call]:
    """Those that can be read; arguments that are no JSON object are no call."""
    found = []
    for call in message.get("tool_calls") or []:
        try:
            arguments = json.loads(call["function"]["arguments"])
        except ValueError:
            continue
        if isinstance(arguments, dict):
            found.append({call["function"]["name"]: arguments})
    return found


if __name__ == "__main__":
    main()
