"""A progress bar for a file on its way, on stderr and only where somebody sees it."""

import contextlib
import sys
from collections.abc import Iterator

from imts_client.uploads import Told


@contextlib.contextmanager
def transfer_bar(doing: str, afterwards: str) -> Iterator[Told | None]:
    """`afterwards` is what the platform does when the last byte has gone."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)
            if afterwards and total and done >= total:
                bar.update(task, description=afterwards)

        yield told
