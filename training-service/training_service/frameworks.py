"""Makes LLaMA-Factory importable where no torchaudio is installed: it imports that for every job, text or not."""

import importlib.machinery
import importlib.util
import os
import sys
import types


def ready() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DISABLE_VERSION_CHECK", "1")  # the lock decides which versions belong together
    if "torchaudio" not in sys.modules and importlib.util.find_spec("torchaudio") is None:
        stand_in = types.ModuleType("torchaudio")
        stand_in.__version__ = "0"  # type: ignore[attr-defined]
        stand_in.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = stand_in
