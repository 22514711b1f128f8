"""`python -m analyzer_service api|worker`"""

import sys

from imts_shared.service.command import main, serve


def _api() -> None:
    from analyzer_service.settings import settings

    serve("analyzer_service.api:app", settings(), settings().analyzer_port)


def _worker() -> None:
    from analyzer_service.worker import main as work

    work()


if __name__ == "__main__":
    sys.exit(main("analyzer_service", {"api": _api, "worker": _worker}, sys.argv[1:]))
