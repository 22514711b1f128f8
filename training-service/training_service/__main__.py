"""`python -m training_service api|worker`"""

import sys

from pydantic import ValidationError

from imts_shared.settings import SettingsFileError

USAGE = "usage: python -m training_service api|worker"


def main(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except (ValidationError, SettingsFileError) as error:
        sys.stderr.write(f"The settings are not right: {error}\n")
        return 2


def _run(arguments: list[str]) -> int:
    match arguments:
        case ["worker"]:
            from training_service.worker import main as work

            work()
        case ["api"]:
            import uvicorn

            from training_service.settings import settings

            rules = settings()
            uvicorn.run(
                "training_service.api:app",
                host=rules.host,
                port=rules.training_port,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
            )
        case _:
            sys.stderr.write(USAGE + "\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
