"""A worker like any other, on the real runtime, whose engine is the probe. Serves `evaluation` jobs."""

import os

from imts_shared.settings import Settings
from imts_shared.worker.runtime import run_worker

if __name__ == "__main__":
    run_worker(
        service="chaos-probe",
        kinds=["evaluation"],
        engine="tests.chaos.probe:run",
        settings=Settings(),  # type: ignore[call-arg]
        health_port=int(os.environ["CHAOS_HEALTH_PORT"]),
        slots=2,
        preload=["tests.chaos.probe"],
    )
