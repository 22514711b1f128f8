"""One behaviour over a local disk and a real S3 server."""

import asyncio
import hashlib
import io
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from imts_shared import storage as module
from imts_shared.storage import BadKey, Storage, StorageError, StorageFull

BIG = os.urandom(2**20) * 37 + b"end"


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[str, dict[str, str], object]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    options = {
        "endpoint": f"http://127.0.0.1:{port}",
        "region": "us-east-1",
        "access_key_id": "key",
        "secret_access_key": "secret",
    }
    client = boto3.client(
        "s3",
        endpoint_url=options["endpoint"],
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket="imts-test")
    yield "s3://imts-test/some/prefix", options, client
    server.stop()


@pytest.fixture(params=["file", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "file":
        return Storage(f"file://{tmp_path}/a%20folder/storage")
    url, options, _ = request.getfixturevalue("s3")
    return Storage(f"{url}/{tmp_path.name}", options)


async def pieces(content: bytes, size: int, then: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
    if then is not None:
        raise then


def test_bytes_come_back_and_are_replaced_and_deleted(storage: Storage) -> None:
    storage.put_bytes("a/b.txt", b"one")
    storage.put_bytes("a/b.txt", b"two")
    assert storage.get_bytes("a/b.txt") == b"two"
    assert storage.exists("a/b.txt") and storage.size("a/b.txt") == 3
    storage.delete("a/b.txt")
    storage.delete("a/b.txt")
    assert not storage.exists("a/b.txt")


def test_a_missing_key_is_a_missing_file(storage: Storage) -> None:
    for read in (storage.get_bytes, storage.size, storage.open):
        with pytest.raises(FileNotFoundError):
            read("no/such/key")
    assert list(storage.list("no/such")) == []


def test_a_large_file_goes_up_in_parts_and_comes_down_whole(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(BIG)
    storage.put_file("big", tmp_path / "big")
    assert storage.size("big") == len(BIG)
    assert storage.download("big", tmp_path / "down" / "big") == len(BIG)
    assert (tmp_path / "down" / "big").read_bytes() == BIG


def test_an_open_file_can_be_read_by_lines_and_sought_in(storage: Storage) -> None:
    content = b"".join(b"line %d\n" % n for n in range(200_000))
    storage.put_bytes("lines", content)
    with storage.open("lines") as file:
        assert file.readline() == b"line 0\n"
        assert sum(1 for _ in file) == 199_999
        file.seek(-7, io.SEEK_END)
        assert file.read() == content[-7:]
        file.seek(1_000_000)
        assert (file.read(10), file.tell()) == (content[1_000_000:1_000_010], 1_000_010)


def test_listing_and_deleting_keep_to_the_folder(storage: Storage) -> None:
    for key in ("jobs/1/a", "jobs/1/b/c", "jobs/10/a", "jobs/1x"):
        storage.put_bytes(key, key.encode())
    assert sorted(storage.list("jobs/1")) == [("jobs/1/a", 8), ("jobs/1/b/c", 10)]
    storage.delete_prefix("jobs/1/")
    assert sorted(key for key, _ in storage.list("jobs")) == ["jobs/10/a", "jobs/1x"]
    storage.delete_prefix("jobs/never")


def test_renaming_moves(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.put_bytes("uploads/x", BIG)
    storage.rename("uploads/x", "datasets/y")
    assert not storage.exists("uploads/x") and storage.size("datasets/y") == len(BIG)
    monkeypatch.setattr(module, "LARGEST_SERVER_COPY", 2**20)
    storage.rename("datasets/y", "datasets/z")
    assert not storage.exists("datasets/y") and storage.get_bytes("datasets/z") == BIG


async def test_a_stream_is_stored_and_streamed_back(storage: Storage) -> None:
    assert await storage.put_stream("up", pieces(BIG, 700_001)) == len(BIG)
    digest = hashlib.sha256()
    async for part in storage.stream("up"):
        digest.update(part)
    assert digest.digest() == hashlib.sha256(BIG).digest()
    assert b"".join([p async for p in storage.stream("up", start=5, end=5_000_005)]) == BIG[5:5_000_005]
    assert b"".join([p async for p in storage.stream("up", start=len(BIG) - 3)]) == b"end"
    assert await storage.aexists("up") and not await storage.aexists("down")
    assert await storage.put_stream("empty", pieces(b"", 1)) == 0
    assert storage.get_bytes("empty") == b""


async def test_a_stream_that_breaks_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    class HungUp(Exception):
        pass

    with pytest.raises(HungUp):
        await storage.put_stream("broken/up", pieces(BIG, 2**20, HungUp()))
    task = asyncio.ensure_future(storage.put_stream("broken/too", pieces(BIG * 8, 2**20)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.3)
    assert list(storage.list("broken")) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("key", ["", "/abs", "a//b", "../x", "a/../b", "a/.", "a\\b", "a\0b", "a#1", "x" * 300])
def test_odd_keys_are_refused(storage: Storage, key: str) -> None:
    with pytest.raises(BadKey):
        storage.put_bytes(key, b"")


def test_a_full_disk_has_a_name(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from imts_shared.storage import Storage\n"
        "Storage(sys.argv[1]).put_bytes('full/x', b'x' * 2**20)\n"
    )
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", small], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        ran = subprocess.run(
            [sys.executable, "-c", script, f"file://{small}"], capture_output=True, text=True, check=False
        )
        assert StorageFull.__name__ in ran.stderr
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("url", ["file://relative/path", "http://x", "s3://", "/plain"])
def test_odd_urls_are_refused(url: str) -> None:
    with pytest.raises(StorageError):
        Storage(url)


def test_only_a_local_disk_has_paths(s3: tuple[str, dict[str, str], object], tmp_path: Path) -> None:
    assert Storage(f"file://{tmp_path}").local_path("a/b") == tmp_path / "a" / "b"
    assert Storage(s3[0], s3[1]).local_path("a/b") is None
