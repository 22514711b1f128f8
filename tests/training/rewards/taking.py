"""How long a piece of work takes, without what the rest of the test run leaves behind."""

import gc
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """Once, with garbage left lying meanwhile: a collection over all that the run holds may take most of a second."""
    gc.disable()
    try:
        started = time.process_time()
        work()
        return time.process_time() - started
    finally:
        gc.enable()
