"""`python -m inference_service gateway|worker`"""

import sys

from imts_shared.service.command import main, serve


def _gateway() -> None:
    from inference_service.gateway.process import main as work

    work()


def _worker() -> None:
    from inference_service.settings import settings

    rules = settings()
    if rules.launcher == "kubernetes":
        from inference_service.launch.kubernetes.api import configuration

        configuration(rules)
    serve("inference_service.worker.app:app", rules, rules.inference_worker_port)


if __name__ == "__main__":
    sys.exit(main("inference_service", {"gateway": _gateway, "worker": _worker}, sys.argv[1:]))
