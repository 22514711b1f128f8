"""`python -m training_service api|worker`"""

import sys

from imts_shared.service.command import main, serve


def _api() -> None:
    from training_service.settings import settings

    serve("training_service.api:app", settings(), settings().training_port)


def _worker() -> None:
    from training_service.worker import main as work

    work()


if __name__ == "__main__":
    sys.exit(main("training_service", {"api": _api, "worker": _worker}, sys.argv[1:]))
