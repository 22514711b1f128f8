"""A deployment through the gateway beside `vllm bench serve` at its engine: prompts of one length, one run.

PYTHONPATH=benchmarks python benchmarks/gpu/serving.py --model NAME --engine-url URL --engine-python PYTHON
    --tokenizer FOLDER

`--engine-url` is the deployment's own engine (`instances[0].url` of GET /api/deployments/NAME), `--engine-python` that
of its environment. Each concurrency is measured by us at the gateway, then by vLLM's tool at the engine, then by the
tool at the gateway: the first two differ in tool and way, the last two in the way alone.
"""

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from platform_at_hand import Platform, gateway_url, machine
from serving_load import Address, at_once, prompts, told

BENCH_SERVE = (
    "from vllm.benchmarks.serve import add_cli_args, main; "
    "from vllm.utils.argparse_utils import FlexibleArgumentParser; "
    "parser = FlexibleArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
)
"""`vllm bench serve` by its module: the command asks for a distribution named vllm, which the CPU's is not."""


async def main() -> None:
    parser = argparse.ArgumentParser()
    Platform.add_arguments(parser)
    parser.add_argument("--gateway-url", help="By default as ./imts status tells.")
    parser.add_argument("--model", required=True, help="The deployment's name.")
    parser.add_argument("--engine-url", required=True)
    parser.add_argument("--engine-python", required=True, help="Of the environment that has vLLM.")
    parser.add_argument("--tokenizer", required=True, help="The model's folder or hub id.")
    parser.add_argument("--concurrent", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--waves", type=int, default=4, help="Requests for each of the concurrent ones.")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--words", type=int, default=200, help="Of a prompt; of vLLM's tool, as many tokens.")
    arguments = parser.parse_args()
    platform = Platform.from_arguments(arguments)
    ours = Address(arguments.gateway_url or gateway_url(), arguments.model, platform.key)
    await at_once(ours, prompts(8, arguments.words, 0), arguments.tokens, 8)
    found = []
    for concurrent in arguments.concurrent:
        count = max(8, concurrent * arguments.waves)
        streams, seconds = await at_once(
            ours, prompts(count, arguments.words, concurrent), arguments.tokens, concurrent
        )
        found.append(
            {
                "concurrent": concurrent,
                "gateway": told(streams, seconds),
                "vllmBenchAtTheEngine": _vllm_bench(arguments, arguments.engine_url, "none", concurrent, count, seed=1),
                "vllmBenchAtTheGateway": _vllm_bench(arguments, ours.url, ours.key, concurrent, count, seed=2),
            }
        )
    print(json.dumps({"machine": machine(), "gpus": _gpus(), "found": found}, indent=2))


def _vllm_bench(
    arguments: argparse.Namespace, url: str, key: str, concurrent: int, count: int, seed: int
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            arguments.engine_python, "-c", BENCH_SERVE, "--backend", "openai",
            "--base-url", url, "--endpoint", "/v1/completions", "--model", arguments.model,
            "--tokenizer", arguments.tokenizer, "--dataset-name", "random", "--random-input-len", str(arguments.words),
            "--random-output-len", str(arguments.tokens), "--seed", str(1_000 * seed + concurrent),
            "--num-prompts", str(count), "--max-concurrency", str(concurrent), "--ignore-eos", "--temperature", "0",
            "--save-result", "--result-dir", folder, "--result-filename", "result.json",
        ]  # fmt: skip
        environment = {**os.environ, "OPENAI_API_KEY": key}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"vllm bench serve failed:\n{done.stderr[-3_000:]}")
        result = json.loads(Path(folder, "result.json").read_text())
    return {
        "requests": result["completed"],
        "failed": count - result["completed"],
        "tokensPerSecond": round(result["output_throughput"], 1),
        "ttftMs": {"p50": round(result["median_ttft_ms"], 2), "p99": round(result["p99_ttft_ms"], 2)},
        "tpotMs": {"p50": round(result["median_tpot_ms"], 2), "p99": round(result["p99_tpot_ms"], 2)},
    }


def _gpus() -> list[str]:
    try:
        asked = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    except (OSError, subprocess.CalledProcessError):
        return []


asyncio.run(main())
