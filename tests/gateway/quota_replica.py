"""One gateway's quota in a process of its own, under random traffic: `python -m tests.gateway.quota_replica`.

Its one argument is JSON. Each request that is settled makes a line in the file `out`: when it was admitted, its tokens,
its money.
"""

import asyncio
import json
import os
import random
import sys
import time
from typing import Any

from imts_shared.contracts.limits import Limits
from imts_shared.contracts.usage import SpentScope
from inference_service.gateway.errors import Refusal
from inference_service.gateway.quota import Quota, Settings

PATIENCE = 2.0
"""Longer than in earnest: the machine that tests may stand still for a while, which is no trouble of Redis."""
ENOUGH = 25
"""So often a caller is told that its budget is used up before it believes it."""


async def nothing_spent() -> list[SpentScope]:
    return []


async def caller(quota: Quota, told: dict[str, Any], out: int, ends: float, random_: random.Random) -> int:
    limits = Limits.model_validate(told["limits"])
    refused = used_up = 0
    while time.monotonic() < ends and used_up < ENOUGH:
        scopes = quota.scopes("k", limits, "p", None)
        estimate = random_.randint(1, told["largest"])
        price = 0.001
        try:
            grant = await quota.admit(scopes, estimate, estimate * price)
        except Refusal as refusal:
            assert refusal.status == 429, refusal.message
            refused += 1
            used_up += refusal.code == "insufficient_quota"
            await asyncio.sleep(random_.random() * told["pause"])
            continue
        at = time.time()
        await asyncio.sleep(random_.random() * told["takes"])
        tokens = max(1, int(estimate * random_.choice(told["ratios"])))
        grant.settle(tokens, tokens * price)
        os.write(out, f"{at:.6f} {tokens} {tokens * price:.6f}\n".encode())
        await asyncio.sleep(random_.random() * told["pause"])
    return refused


async def main() -> None:
    told = json.loads(sys.argv[1])
    settings = Settings(window_seconds=told.get("window", 60.0), patience_seconds=PATIENCE)
    quota = Quota(told["url"], nothing_spent, settings)
    await quota.start()
    out = os.open(told["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ends = time.monotonic() + told["seconds"]
    callers = [caller(quota, told, out, ends, random.Random(told["seed"] * 1000 + n)) for n in range(told["callers"])]
    refused = sum(await asyncio.gather(*callers))
    await quota.close()
    print(json.dumps({"refused": refused}))


if __name__ == "__main__":
    asyncio.run(main())
