"""How the client finds the platform and its key."""

from pathlib import Path

import pytest

from imts_client import NotConfigured
from imts_client.where import find


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("IMTS_URL", "IMTS_API_KEY", "IMTS_HOME", "IMTS_PORT_OFFSET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def home(folder: Path, key: str) -> Path:
    (folder / "secrets").mkdir(parents=True)
    (folder / "secrets" / "admin-key").write_text(f"{key}\nmore\n")
    return folder


def test_the_local_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home(tmp_path / ".imts", "near")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    monkeypatch.setenv("IMTS_PORT_OFFSET", "100")
    assert (find().url, find().key) == ("http://127.0.0.1:8180", "near")
    monkeypatch.setenv("IMTS_HOME", str(home(tmp_path / "other", "named")))
    assert find().key == "named"


def test_arguments_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMTS_URL", "http://a.example:1/")
    monkeypatch.setenv("IMTS_API_KEY", "k")
    assert (find().url, find().key) == ("http://a.example:1", "k")
    assert (find("https://b.example", "l").url, find("https://b.example", "l").key) == ("https://b.example", "l")
    assert "'k'" not in repr(find())


def test_the_local_key_stays_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home(tmp_path / ".imts", "near")
    assert find("http://localhost:9").key == "near"
    with pytest.raises(NotConfigured, match="IMTS_API_KEY"):
        find("http://elsewhere.example")


def test_nonsense(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for address in ("localhost:8080", "ftp://x", "http://", "http://[", "http://x:port"):
        with pytest.raises(NotConfigured):
            find(address, "k")
    monkeypatch.setenv("IMTS_PORT_OFFSET", "ten")
    with pytest.raises(NotConfigured, match="IMTS_PORT_OFFSET"):
        find()
    monkeypatch.setenv("IMTS_PORT_OFFSET", "0")
    monkeypatch.setenv("IMTS_HOME", str(tmp_path / "none"))
    with pytest.raises(NotConfigured, match="imts up"):
        find()
