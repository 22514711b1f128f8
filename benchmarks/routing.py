"""What routing learns, keeps to and costs. Figures for the report; everything is computed, nothing is asked.

python benchmarks/routing.py [--seeds 10] [--table outcomes.jsonl] [--json]
python benchmarks/routing.py bfcl --wheel bfcl_eval-....whl --table benchmarks/data/bfcl_outcomes.jsonl [--seeds 10]

learning    partial feedback against a nearest-neighbour choice that sees every model's outcome
budget      spend over a hard budget, with heavy-tailed costs, bursts and requests in flight
regression  requests until a model that silently got worse is left, and until it is back after it recovered
speed       microseconds for features and decision
bfcl        the first three on what deployed models made of BFCL's prompts (benchmarks/routing_record.py)
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from routing_bfcl import measure_bfcl
from routing_measures import measure_budget, measure_learning, measure_regression, measure_table
from routing_prompts import recorded
from routing_speed import measure_speed


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", nargs="?", choices=["simulation", "bfcl"], default="simulation")
    arguments.add_argument("--wheel", type=Path, help="of bfcl-eval, for its prompts")
    arguments.add_argument("--seeds", type=int, default=10)
    arguments.add_argument("--table", type=Path, help="recorded outcomes by prompt, instead of the simulation")
    arguments.add_argument("--only", choices=["learning", "budget", "regression", "speed"])
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    if given.what == "bfcl":
        if not given.wheel or not given.table:
            arguments.error("bfcl needs --wheel and --table")
        figures = measure_bfcl(given.wheel, given.table, range(given.seeds))
        if not given.json:
            for name, rows in figures.items():
                _print(name, rows)
    elif given.table:
        figures = {"table": measure_table(list(recorded(given.table)), range(given.seeds))}
    else:
        parts = {
            "learning": measure_learning,
            "budget": measure_budget,
            "regression": measure_regression,
            "speed": lambda seeds: measure_speed(),
        }
        wanted = [given.only] if given.only else list(parts)
        figures = {}
        for name in wanted:
            figures[name] = parts[name](range(given.seeds))
            if not given.json:
                _print(name, figures[name])
    if given.json:
        json.dump(figures, sys.stdout, indent=2)
    elif given.table and given.what != "bfcl":
        _print("table", figures["table"])


def _print(name: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{name}")
    for row in rows:
        print("  " + "  ".join(f"{key} {_shown(value)}" for key, value in row.items()), flush=True)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
