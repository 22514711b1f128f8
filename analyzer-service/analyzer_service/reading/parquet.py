"""Rows of a Parquet file, a batch in memory at a time."""

from collections.abc import Iterator
from pathlib import Path

from analyzer_service.reading.row import Row, Unreadable

ROWS_AT_ONCE = 4_096


def batches(path: Path, skip: int) -> Iterator[Row]:
    """polars is imported here: the processes that never see such a file need not hold it."""
    import polars

    number = skip
    try:
        frames = polars.scan_parquet(path, glob=False).slice(skip)
        for frame in frames.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
            for content in frame.iter_rows(named=True):
                number += 1
                yield Row(number, content)
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        raise Unreadable(
            "invalid_parquet", f"The Parquet file cannot be read: {str(error)[:200]}.", number + 1
        ) from error
