"""One attempt of a training or export job: to whom it is given, and what its failure is called."""

import multiprocessing
from typing import Any

from imts_shared.contracts.jobs import JobKind
from imts_shared.worker.engine import EngineJob
from training_service import launch
from training_service.failures import explained


def run(job: EngineJob) -> dict[str, Any]:
    from training_service.frameworks import ready

    ready()
    multiprocessing.set_start_method("fork", force=True)  # for rows that are loaded beside: no model can be pickled
    try:
        if job.kind == JobKind.export:
            return _export(job)
        return _train(job)
    except Exception as error:
        better = explained(error)
        if better is None or better is error:
            raise
        raise better from error


def _export(job: EngineJob) -> dict[str, Any]:
    from training_service.devices import own_devices
    from training_service.export import export

    own_devices(job)
    return export(job)


def _train(job: EngineJob) -> dict[str, Any]:
    from training_service.training import assist, train

    chosen = launch.chosen(job.spec, job.devices)
    match chosen.launcher:
        case "torchrun":
            from training_service.launch import processes

            return processes.run(job, chosen.count, train, assist)
        case "ray":
            from training_service.launch import ray

            return ray.run(job, chosen.count)
        case _:
            return train(job)
