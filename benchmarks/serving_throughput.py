"""A deployment through the gateway against the same engine started by hand: tokens a second and the first token's time.

Start the engine by hand with the arguments that the deployment's engine has (its log says them), then

python benchmarks/serving_throughput.py --model smollm2 --engine-url http://127.0.0.1:9000 --engine-model smollm2

Rounds of the two alternate, and who begins does too; the medians are compared. With the deployment's own engine as
--engine-url the ratio is what the gateway alone costs.
"""

import argparse
import asyncio
import json
import statistics
from typing import Any

from platform_at_hand import Platform, gateway_url, machine
from serving_load import Address, at_once, prompts, told


async def main() -> None:
    parser = argparse.ArgumentParser()
    Platform.add_arguments(parser)
    parser.add_argument("--gateway-url", help="By default as ./imts status tells.")
    parser.add_argument("--model", required=True, help="The deployment's name.")
    parser.add_argument("--engine-url", required=True)
    parser.add_argument("--engine-model", help="Its name at the engine by hand, if another.")
    parser.add_argument("--concurrent", type=int, default=16)
    parser.add_argument("--requests", type=int, default=64, help="In each round.")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    platform = Platform.from_arguments(arguments)
    ours = Address(arguments.gateway_url or gateway_url(), arguments.model, platform.key)
    by_hand = Address(arguments.engine_url, arguments.engine_model or arguments.model)
    rounds: dict[str, list[dict[str, Any]]] = {"gateway": [], "byHand": []}
    for address in (ours, by_hand):
        await at_once(
            address, prompts(arguments.concurrent, arguments.words, 0), arguments.tokens, arguments.concurrent
        )
    for number in range(arguments.rounds):
        pair = [("gateway", ours), ("byHand", by_hand)]
        for name, address in pair if number % 2 else reversed(pair):
            asked = prompts(arguments.requests, arguments.words, seed=2 * number + 1 + (name == "byHand"))
            streams, seconds = await at_once(address, asked, arguments.tokens, arguments.concurrent)
            rounds[name].append(told(streams, seconds))
    print(json.dumps({"machine": machine(), "concurrent": arguments.concurrent, **_compared(rounds)}, indent=2))


def _compared(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    def median(name: str, value: Any) -> float:
        return statistics.median(value(one) for one in rounds[name])

    def tokens(one: dict[str, Any]) -> float:
        return float(one["tokensPerSecond"])

    def first(one: dict[str, Any]) -> float:
        return float(one["ttftMs"]["p50"])

    return {
        "throughputRatio": round(median("gateway", tokens) / median("byHand", tokens), 4),
        "ttftRatio": round(median("gateway", first) / median("byHand", first), 4),
        "failed": sum(one["failed"] for some in rounds.values() for one in some),
        "rounds": rounds,
    }


asyncio.run(main())
