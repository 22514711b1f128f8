"""Inspecting in a fresh process, whose peak of memory is the inspection's own."""

import json
import subprocess
import sys

from imts_shared.contracts.datasets import Inspection
from imts_shared.storage import Storage

SCRIPT = """
import json, resource, sys
from analyzer_service.inspect.inspection import inspect
from imts_shared.storage import Storage
url, key, name = sys.argv[1:]
storage = Storage(url)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = inspect(storage, key, name)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps([found.model_dump(mode="json"), grown]))
"""


def inspected_alone(storage: Storage, key: str, name: str) -> tuple[Inspection, float]:
    """What was found, and by how many MiB the process grew."""
    command = [sys.executable, "-c", SCRIPT, storage.url, key, name]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return Inspection.model_validate(said[0]), said[1]
