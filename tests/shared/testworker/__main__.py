"""A worker for the tests, as a service starts its own."""

import sys

from imts_shared.settings import Settings
from imts_shared.worker.runtime import run_worker

run_worker(
    service="test-service",
    kinds=["analysis"],
    engine="tests.shared.engines:run",
    settings=Settings(),
    health_port=int(sys.argv[1]),
    slots=int(sys.argv[2]),
    preload=["tests.shared.engines"],
)
