"""The analyzer's worker."""

from analyzer_service.settings import settings
from imts_shared.worker.runtime import run_worker


def main() -> None:
    rules = settings()
    run_worker(
        service="analyzer-service",
        kinds=["analysis"],
        engine="analyzer_service.engine:run",
        preload=["analyzer_service.engine"],
        settings=rules,
        health_port=rules.analyzer_worker_port,
        slots=rules.worker_slots,
    )
