"""`python -m analyzer_service api|worker`"""

import sys

from pydantic import ValidationError

from imts_shared.settings import SettingsFileError

USAGE = "usage: python -m analyzer_service api|worker"


def main(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except (ValidationError, SettingsFileError) as error:
        sys.stderr.write(f"The settings are not right: {error}\n")
        return 2


def _run(arguments: list[str]) -> int:
    match arguments:
        case ["worker"]:
            from analyzer_service.worker import main as work

            work()
        case ["api"]:
            import uvicorn

            from analyzer_service.settings import settings

            rules = settings()
            uvicorn.run(
                "analyzer_service.api:app",
                host=rules.host,
                port=rules.analyzer_port,
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
