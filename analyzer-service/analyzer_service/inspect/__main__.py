"""`python -m analyzer_service.inspect`: judges one file in a process of its own.

The request comes as one line on stdin, the inspection goes to stdout. Stdin stays open as long as the asker lives:
when it ends, so does this process, whatever it was doing.
"""

import os
import sys
import threading

from obstore.exceptions import BaseError

from analyzer_service.inspect.inspection import inspect
from analyzer_service.settings import settings
from imts_shared.contracts.datasets import InspectRequest
from imts_shared.storage import Storage, StorageError


def _end_with_the_asker() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


def main() -> None:
    request = InspectRequest.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_asker, daemon=True).start()
    config = settings()
    try:
        storage = Storage(config.storage_url, config.storage_options)
        found = inspect(storage, request.key, request.file_name, request.format)
    except (StorageError, BaseError, OSError) as error:
        sys.stderr.write(f"the file could not be read: {error}\n")
        sys.stderr.flush()
        os._exit(os.EX_TEMPFAIL)
    sys.stdout.buffer.write(found.model_dump_json(by_alias=True).encode())
    sys.stdout.buffer.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
