"""Files by key, on a local disk (`file://`) or in an S3 bucket (`s3://`).

    StorageError            something went wrong; the message says what
      StorageFull           no space left
    BadKey (ValueError)     not a key: absolute, '..', empty or odd parts
    FileNotFoundError       nothing lies under that key

A key is a relative posix path. Every write is atomic: a key shows the whole content or does not exist. An
upload that is cut off leaves nothing on a disk; on S3 it can leave an unfinished multipart upload, which
readers never see and a bucket's lifecycle rule should remove.
"""

import errno
import io
import re
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]

    from obstore import GetResult, ReadableFile

MIB = 2**20
PART_BYTES = 16 * MIB
PARTS_AT_ONCE = 3
MOST_PARTS = 9_000
LARGEST_SERVER_COPY = 5 * 2**30
READ_AHEAD = 4 * MIB

_ODD = re.compile(r"[\x00-\x1f\x7f\\#]")


class StorageError(Exception):
    """Storage failed for a reason that the caller cannot mend."""


class StorageFull(StorageError):
    """No space is left where the file should go."""


class BadKey(ValueError):
    """Not a relative posix path that every storage can hold."""


def checked(key: str) -> str:
    """`#` is refused because a local store names unfinished files with it."""
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or _ODD.search(key):
        raise BadKey(f"not a storage key: {key[:200]!r}")
    if any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in parts) or len(key) > 900:
        raise BadKey(f"the storage key is too long: {key[:200]!r}...")
    return key


@contextmanager
def _named_errors(key: str) -> Iterator[None]:
    try:
        yield
    except BaseError as error:
        text = str(error).partition("\n\nDebug source:")[0]
        if f"os error {errno.ENOSPC}" in text or "No space left" in text:
            raise StorageFull(f"no space left for {key}") from error
        raise StorageError(f"{key}: {text}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space left for {key}") from error
        raise


class _RangeReader(io.RawIOBase):
    """Lets an object in a bucket be read like a file."""

    def __init__(self, file: "ReadableFile") -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer).cast("B")
        data = self._file.read(len(view))
        view[: len(data)] = memoryview(data)
        return len(data)


class Storage:
    """One place for files. Cheap to make, safe to share between threads; make it anew after a fork."""

    def __init__(self, url: str, options: dict[str, str] | None = None) -> None:
        """`options` go to the S3 client: endpoint, region, access_key_id, secret_access_key and so on."""
        self.url = url
        self.options = dict(options or {})
        parts = urlsplit(url)
        self._root: Path | None = None
        self._store: LocalStore | S3Store
        if parts.scheme == "file":
            root = Path(unquote(parts.path))
            if parts.netloc not in ("", "localhost") or not root.is_absolute():
                raise StorageError(f"storage URL must be file:///absolute/path, not {url}")
            root.mkdir(parents=True, exist_ok=True)
            self._root = root
            self._store = LocalStore(root)
        elif parts.scheme == "s3" and parts.netloc:
            config = dict(options or {})
            if config.get("endpoint", "").startswith("http://"):
                config.setdefault("allow_http", "true")
            try:
                self._store = S3Store(
                    parts.netloc,
                    prefix=unquote(parts.path).strip("/") or None,
                    config=config,  # type: ignore[arg-type]
                    client_options={"connect_timeout": "5s", "timeout": "120s"},
                )
            except BaseError as error:
                raise StorageError(f"{url}: {error}") from error
        else:
            raise StorageError(f"storage URL must begin with file:/// or s3://, not {url}")

    def local_path(self, key: str) -> Path | None:
        """Where the file lies on this machine's disk; None when it does not."""
        checked(key)
        return None if self._root is None else self._root / key

    def put_bytes(self, key: str, data: bytes) -> None:
        with _named_errors(checked(key)):
            obstore.put(self._store, key, data, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)

    def put_file(self, key: str, path: Path) -> None:
        size = max(PART_BYTES, path.stat().st_size // MOST_PARTS)
        with _named_errors(checked(key)):
            obstore.put(self._store, key, path, chunk_size=size, max_concurrency=PARTS_AT_ONCE)

    def get_bytes(self, key: str) -> bytes:
        with _named_errors(checked(key)):
            return bytes(obstore.get(self._store, key).bytes())

    def download(self, key: str, path: Path) -> int:
        """Writes the file to `path` and returns its length."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with _named_errors(checked(key)), path.open("wb") as target:
            return sum(target.write(part) for part in obstore.get(self._store, key).stream(READ_AHEAD))

    def open(self, key: str) -> BinaryIO:
        """A buffered, seekable reader."""
        path = self.local_path(key)
        if path is not None:
            return path.open("rb")
        with _named_errors(key):
            raw = _RangeReader(obstore.open_reader(self._store, key, buffer_size=READ_AHEAD))
        return cast(BinaryIO, cast(IO[bytes], io.BufferedReader(raw, MIB)))

    def size(self, key: str) -> int:
        with _named_errors(checked(key)):
            return int(obstore.head(self._store, key)["size"])

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Key and length of every file in the folder `prefix`, in no particular order."""
        folder = checked(prefix.rstrip("/"))
        with _named_errors(folder):
            for batch in obstore.list(self._store, folder + "/"):
                for item in batch:
                    yield item["path"], int(item["size"])

    def rename(self, key: str, to: str) -> None:
        checked(to)
        if self._root is None and self.size(key) > LARGEST_SERVER_COPY:
            with _named_errors(key):
                source = obstore.get(self._store, key).stream(READ_AHEAD)
                with obstore.open_writer(
                    self._store, to, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
                ) as target:
                    for part in source:
                        target.write(part)
            self.delete(key)
            return
        with _named_errors(checked(key)):
            obstore.rename(self._store, key, to)

    def delete(self, key: str) -> None:
        """A key that is not there counts as deleted."""
        with _named_errors(checked(key)):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                return

    def delete_prefix(self, prefix: str) -> None:
        """Deletes the folder `prefix` with all it holds, unfinished uploads on a disk included."""
        folder = checked(prefix.rstrip("/"))
        path = self.local_path(folder)
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)
            return
        with _named_errors(folder):
            for batch in obstore.list(self._store, folder + "/", chunk_size=1000):
                obstore.delete(self._store, [item["path"] for item in batch])

    async def put_stream(self, key: str, chunks: AsyncIterable[bytes]) -> int:
        """Stores what the iterator yields, a few parts in memory at a time, and returns the length.

        What the iterator raises comes out of here with its own type, and the key does not appear.
        """
        written = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal written
            async for chunk in chunks:
                written += len(chunk)
                yield chunk

        with _named_errors(checked(key)):
            await obstore.put_async(
                self._store,
                key,
                counted(),
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        return written

    async def stream(self, key: str, chunk: int = MIB, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not including, `end`."""
        with _named_errors(checked(key)):
            found: GetResult
            if start == 0 and end is None:
                found = await obstore.get_async(self._store, key)
            elif end is None:
                found = await obstore.get_async(self._store, key, options={"range": {"offset": start}})
            else:
                found = await obstore.get_async(self._store, key, options={"range": (start, end)})
            async for part in found.stream(chunk):
                yield bytes(part)

    async def asize(self, key: str) -> int:
        with _named_errors(checked(key)):
            return int((await obstore.head_async(self._store, key))["size"])

    async def aexists(self, key: str) -> bool:
        try:
            await self.asize(key)
        except FileNotFoundError:
            return False
        return True
