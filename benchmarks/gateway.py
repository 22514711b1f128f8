"""The gateway between a load and models that answer at once, beside others of its kind, on the platform that runs.

python benchmarks/gateway.py speed --litellm ENV/bin/litellm --vllm-router ENV/bin/vllm-router
python benchmarks/gateway.py streams
python benchmarks/gateway.py faults

Ours has everything on: keys, rates and budgets of key and project, routing among two models, accounting, metrics. The
others have what they offer without a database of their own (see REPORT.md). Rounds go round, medians are compared.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from gateway_faults import faults
from gateway_platform import Bench
from platform_at_hand import machine

HERE = Path(__file__).parent
WIRE = HERE / "wire.py"
SECONDS_TO_START = 90
APART_SECONDS = 0.03


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(*command: str | Path, ready: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """In a session of its own, as the platform is: Linux shares a CPU between sessions."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        try:
            deadline = time.monotonic() + SECONDS_TO_START
            while not _answers(ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"{command[0]} did not start:\n{log.read().decode()[-4_000:]}")
                time.sleep(0.2)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def upstream(*flags: str) -> Iterator[str]:
    port = free_port()
    with running(sys.executable, WIRE, "upstream", str(port), *flags, ready=f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


def load(
    url: str, key: str, model: str, connections: int, seconds: float, *, stream: bool = False, apart: float = 0.0
) -> dict[str, Any]:
    command = [
        sys.executable, WIRE, "load", url, "--key", key, "--model", model, "--connections", str(connections),
        "--seconds", str(seconds), "--apart", str(apart), *(["--stream"] if stream else []),
    ]  # fmt: skip
    done = subprocess.run([str(part) for part in command], capture_output=True, check=True, start_new_session=True)
    told: dict[str, Any] = json.loads(done.stdout)
    if told["bad"]:
        raise SystemExit(f"{told['bad']} of {told['requests']} requests to {url} failed: {told['problem']}")
    return told


@contextlib.contextmanager
def litellm(program: Path, up: str) -> Iterator[tuple[str, str, str]]:
    port = free_port()
    key = "sk-bench-0123456789"
    models = [
        {
            "model_name": "bench",
            "litellm_params": {
                "model": "openai/bench", "api_base": f"{up}/v1", "api_key": "none", "rpm": 10_000_000,
                "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
            },
        }
        for _ in range(2)
    ]  # fmt: skip
    config = {
        "model_list": models,
        "router_settings": {"routing_strategy": "least-busy", "num_retries": 2},
        "litellm_settings": {"telemetry": False, "max_budget": 1_000_000, "budget_duration": "30d"},
        "general_settings": {"master_key": key},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(config, file)
        file.flush()
        command = [program, "--config", file.name, "--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"]
        with running(*command, ready=f"http://127.0.0.1:{port}/health/liveliness", LITELLM_LOG="ERROR"):
            yield f"http://127.0.0.1:{port}", key, "bench"


@contextlib.contextmanager
def vllm_router(program: Path, up: str) -> Iterator[tuple[str, str, str]]:
    port = free_port()
    command = [program, "--worker-urls", up, "--host", "127.0.0.1", "--port", str(port)]
    with running(*command, ready=f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}", "none", "bench"


def speed(given: argparse.Namespace) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        up = stack.enter_context(upstream())
        bench = stack.enter_context(Bench.made(up))
        doors = {
            "direct": (up, "none", "bench"),
            "ours": (bench.gateway, bench.key, bench.route),
            "oursByName": (bench.gateway, bench.key, bench.models[0]),
        }
        if given.litellm:
            doors["litellm"] = stack.enter_context(litellm(given.litellm, up))
        if given.vllm_router:
            doors["vllmRouter"] = stack.enter_context(vllm_router(given.vllm_router, up))
        for door in doors.values():
            load(*door, 4, 1.0)
        found: dict[str, dict[int, list[dict[str, Any]]]] = {name: {1: [], 32: []} for name in doors}
        for number in range(given.rounds):
            names = list(doors)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                for connections in (1, 32):
                    found[name][connections].append(load(*doors[name], connections, given.seconds))
    return _compared(found)


def _compared(found: dict[str, dict[int, list[dict[str, Any]]]]) -> dict[str, Any]:
    def middle(name: str, connections: int, which: str) -> float:
        return statistics.median(one[which] for one in found[name][connections])

    told: dict[str, Any] = {
        name: {
            f"{which} at {connections}": round(middle(name, connections, which), 3)
            for connections in (1, 32)
            for which in ("perSecond", "p50ms", "p99ms")
        }
        for name in found
    }
    for name in ("ours", "oursByName"):
        told[name]["added p50 ms at 1"] = round(middle(name, 1, "p50ms") - middle("direct", 1, "p50ms"), 3)
        for other in ("litellm", "vllmRouter"):
            if other in found:
                rate = [
                    ours["perSecond"] / theirs["perSecond"]
                    for ours, theirs in zip(found[name][32], found[other][32], strict=True)
                ]
                late = [
                    ours["p99ms"] / theirs["p99ms"]
                    for ours, theirs in zip(found[name][32], found[other][32], strict=True)
                ]
                told[name][f"requests/s of {other}'s"] = round(statistics.median(rate), 3)
                told[name][f"p99 of {other}'s"] = round(statistics.median(late), 3)
    return told


def streams(given: argparse.Namespace) -> dict[str, Any]:
    """Eight clients that begin when they like, and eight that begin and end all at once: their first tokens wait for
    each other."""
    told: dict[str, Any] = {}
    for named, flags, apart in (("8 streams", (), APART_SECONDS), ("8 streams in lockstep", ("--lockstep",), 0.0)):
        with contextlib.ExitStack() as stack:
            up = stack.enter_context(upstream(*flags))
            bench = stack.enter_context(Bench.made(up))
            told[f"{named}, added first token ms"] = _added(given, up, bench, apart)
            if not flags:
                many = load(bench.gateway, bench.key, bench.route, 500, 10, stream=True)
                told["500 streams"] = {**many, "memoryMiB": bench.memory(), "mostMemoryMiB": bench.most_memory()}
    return told


def _added(given: argparse.Namespace, up: str, bench: Bench, apart: float) -> dict[str, Any]:
    doors = {"through a route": bench.route, "by name": bench.models[0]}
    for model in doors.values():
        load(bench.gateway, bench.key, model, 4, 1.0, stream=True)
    added: dict[str, list[dict[str, float]]] = {name: [] for name in doors}
    for _ in range(given.rounds):
        direct = load(up, "none", "bench", 8, given.seconds, stream=True, apart=apart)
        for name, model in doors.items():
            ours = load(bench.gateway, bench.key, model, 8, given.seconds, stream=True, apart=apart)
            added[name].append({which: ours[which] - direct[which] for which in ("p50ms", "p99ms")})
    return {
        name: {which: round(statistics.median(one[which] for one in found), 3) for which in ("p50ms", "p99ms")}
        for name, found in added.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="what", required=True)
    fast = parts.add_parser("speed")
    fast.add_argument("--litellm", type=Path)
    fast.add_argument("--vllm-router", type=Path)
    flowing = parts.add_parser("streams")
    for part, seconds in ((fast, 4), (flowing, 20)):
        part.add_argument("--rounds", type=int, default=5)
        part.add_argument("--seconds", type=float, default=seconds)
    ill = parts.add_parser("faults")
    ill.add_argument("--requests", type=int, default=10_000)
    ill.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.what == "faults":
        told = asyncio.run(faults(given.requests, given.seed))
    else:
        told = speed(given) if given.what == "speed" else streams(given)
    print(json.dumps({"machine": machine(), **told}, indent=2))


if __name__ == "__main__":
    main()
