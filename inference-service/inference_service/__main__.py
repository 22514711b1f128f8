"""`python -m inference_service gateway`"""

import sys

from imts_shared.service.command import main


def _gateway() -> None:
    from inference_service.gateway.process import main as serve

    serve()


if __name__ == "__main__":
    sys.exit(main("inference_service", {"gateway": _gateway}, sys.argv[1:]))
