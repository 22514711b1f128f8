"""LLaMA-Factory's registries: what becomes of the rows, and imts datasets import."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import polars
import pytest

from analyzer_service.inspect.rows import faults_of
from control_plane.settings import ControlPlaneSettings
from imts_cli.registries import entries, files
from imts_shared.contracts.datasets import DatasetFormat
from tests.cli.conftest import Imts
from tests.cli.stand_in import Platform
from tests.cli.test_real_platform import ran
from tests.conftest import free_port, served
from tests.control_plane.conftest import NewKey, config, database, new_key, url

__all__ = ["config", "database", "new_key", "url"]

ROLES = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "call",
    "system_tag": "sys",
}
CALL = '{"name": "f", "arguments": {"a": 1}}'
TOOLS = '[{"name": "f", "parameters": {}}]'


def told(*turns: str) -> list[dict[str, str]]:
    return [dict(zip(("role", "content"), turn.split(":", 1), strict=True)) for turn in turns]


def said(*turns: str) -> list[dict[str, str]]:
    return [dict(zip(("from", "value"), turn.split(":", 1), strict=True)) for turn in turns]


def written(folder: Path, description: dict[str, Any], content: Any, name: str = "rows.json") -> tuple[str, list[Any]]:
    """The format and the rows that an entry comes to."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / name).write_bytes(data)
    entry = entries.entry("e", {"file_name": name} | description, folder)
    target = folder / "out"
    files.write(entry, target)
    return entry.form, [json.loads(line) for line in target.read_bytes().splitlines()]


FORMS: dict[str, tuple[dict[str, Any], Any, str, Any]] = {
    "alpaca by default": (
        {},
        {"instruction": "q", "input": "i", "output": "a", "system": "not named", "history": []},
        "alpaca",
        {"instruction": "q", "input": "i", "output": "a"},
    ),
    "alpaca under other names": (
        {"columns": {"prompt": "q", "query": "more", "response": "a", "system": "s", "history": "h", "tools": "t"}},
        {"q": "q", "more": "m", "a": "a", "s": "s", "h": [["x", "y"]], "t": TOOLS, "input": "another"},
        "alpaca",
        {"instruction": "q", "input": "m", "output": "a", "history": [["x", "y"]], "system": "s", "tools": TOOLS},
    ),
    "only the columns that are named": (
        {"columns": {"prompt": "instruction", "response": "output"}},
        {"instruction": "q", "input": "unread", "output": "a"},
        "alpaca",
        {"instruction": "q", "output": "a"},
    ),
    "text": ({"columns": {"prompt": "content"}}, {"content": "words"}, "text", {"text": "words"}),
    "alpaca ranking": (
        {"ranking": True, "columns": {"prompt": "q", "chosen": "good", "rejected": "bad"}},
        {"q": "q", "good": "a", "bad": "b"},
        "preference",
        {"instruction": "q", "chosen": "a", "rejected": "b"},
    ),
    "alpaca kto": (
        {"columns": {"prompt": "q", "response": "a", "kto_tag": "fine"}},
        {"q": "q", "a": "a", "fine": False},
        "kto",
        {"instruction": "q", "output": "a", "kto_tag": False},
    ),
    "sharegpt by default": (
        {"formatting": "sharegpt", "columns": {"system": "system"}},
        {"conversations": said("human:q", "gpt:a"), "system": "s"},
        "sharegpt",
        {"system": "s", "conversations": said("human:q", "gpt:a")},
    ),
    "sharegpt with roles": (
        {"formatting": "sharegpt", "columns": {"messages": "m", "tools": "t"}, "tags": ROLES},
        {"m": told("sys:s", "user:q", f"call:{CALL}", "tool:1", "assistant:a"), "t": TOOLS},
        "sharegpt",
        {
            "tools": TOOLS,
            "conversations": said("system:s", "human:q", f"function_call:{CALL}", "observation:1", "gpt:a"),
        },
    ),
    "tags that are not named": (
        {"formatting": "sharegpt", "tags": {"role_tag": "who", "content_tag": "what"}},
        {"conversations": [{"who": "human", "what": "q"}, {"who": "gpt", "what": "a"}]},
        "sharegpt",
        {"conversations": said("human:q", "gpt:a")},
    ),
    "sharegpt ranking": (
        {
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {"messages": "m", "chosen": "c", "rejected": "r"},
            "tags": ROLES,
        },
        {"m": told("user:q"), "c": told("assistant:a")[0], "r": told("assistant:b")[0]},
        "preference",
        {"conversations": said("human:q"), "chosen": said("gpt:a")[0], "rejected": said("gpt:b")[0]},
    ),
    "sharegpt kto": (
        {"formatting": "sharegpt", "columns": {"messages": "m", "kto_tag": "label"}, "tags": ROLES},
        {"m": told("user:q", "assistant:a"), "label": True},
        "kto",
        {"conversations": said("human:q", "gpt:a"), "kto_tag": True},
    ),
    "openai": (
        {"formatting": "openai", "columns": {"messages": "messages", "tools": "tools"}},
        {
            "messages": [
                *told("system:s", "user:q"),
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "1", "function": {"name": "f", "arguments": '{"a": 1}'}},
                        {"id": "2", "function": {"name": "g", "arguments": {}}},
                    ],
                },
                *told("tool:1", "tool:2"),
                {"role": "assistant", "content": [{"type": "text", "text": "a"}], "tool_calls": None},
            ],
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
        "sharegpt",
        {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "conversations": said(
                "system:s",
                "human:q",
                f'function_call:[{CALL}, {{"name": "g", "arguments": {{}}}}]',
                "observation:1\n</tool_response>\n<tool_response>\n2",
                "gpt:a",
            ),
        },
    ),
}


@pytest.mark.parametrize("case", FORMS)
def test_rows_become_what_the_platform_knows(case: str, tmp_path: Path) -> None:
    description, row, form, expected = FORMS[case]
    assert written(tmp_path, description, [row]) == (form, [expected])
    assert faults_of(expected, DatasetFormat(form)) == []


def test_rows_that_are_not_right_go_on_for_the_platform_to_tell(tmp_path: Path) -> None:
    description = {"formatting": "sharegpt", "tags": ROLES}
    rows = [
        {"conversations": told("user:q", "nobody:a")},
        {"conversations": "text"},
        {"conversations": [1]},
        {"other": 1},
        "text",
    ]
    form, found = written(tmp_path, description, rows)
    assert len(found) == len(rows)
    assert all(faults_of(row, DatasetFormat(form)) for row in found)


def test_lines_that_are_not_json_are_kept(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"instruction": "a", "output": "b"}\n{"instr\n\n\xff\n')
    target = tmp_path / "out"
    assert files.write(entries.entry("e", {"file_name": "rows.jsonl"}, tmp_path), target) == 3
    assert target.read_bytes() == b'{"instruction": "a", "output": "b"}\n{"instr\n\xff\n'


def test_a_long_list_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_READ", 7)
    rows = [{"instruction": f"ü{n}", "output": "x" * n} for n in range(60)]
    content = b"\xef\xbb\xbf \n" + json.dumps(rows, indent=1, ensure_ascii=False).encode() + b"\n"
    assert written(tmp_path, {}, content)[1] == rows


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'[{"instruction": "a"}, {"instr', "after row 1"),
        (b'[{"instruction": "a"}', "after row 1"),
        (b'[{"instruction": "a"} {}]', "expected ',' or ']'"),
        (b'[{"instruction": "a"},]', "after row 1"),
        (b"[{}] [{}]", "something follows"),
        (b"[]", "holds no rows"),
        (b"[ ", "at its beginning"),
        (b"", "holds no rows"),
        (b'["\xff"]', "not UTF-8"),
    ],
)
def test_lists_that_are_broken(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(entries.EntryFault, match=reason.replace("]", r"\]")):
        written(tmp_path, {}, content)


def test_csv(tmp_path: Path) -> None:
    columns = {"prompt": "q", "query": "more", "response": "a", "history": "h", "kto_tag": "fine"}
    content = b'q,more,a,h,fine\n[1],,"b, c","[[""x"", ""y""]]",True\n'
    assert written(tmp_path, {"columns": columns}, content, "rows.csv") == (
        "kto",
        [{"instruction": "[1]", "output": "b, c", "history": [["x", "y"]], "kto_tag": True}],
    )
    with pytest.raises(entries.EntryFault, match=r"Line 2 of .* has 1 cells, the header has 2"):
        written(tmp_path, {}, b"instruction,output\na\n", "rows.csv")


def test_parquet_and_text(tmp_path: Path) -> None:
    row = {"m": told("user:q", "assistant:a"), "extra": None}
    polars.DataFrame([row]).write_parquet(tmp_path / "rows.parquet")
    description = {"formatting": "sharegpt", "columns": {"messages": "m"}, "tags": ROLES}
    content = (tmp_path / "rows.parquet").read_bytes()
    assert written(tmp_path, description, content, "rows.parquet")[1] == [{"conversations": said("human:q", "gpt:a")}]
    with pytest.raises(entries.EntryFault, match="Parquet"):
        written(tmp_path, description, b"PAR1", "rows.parquet")
    text = written(tmp_path, {"columns": {"prompt": "text"}}, b"one\n\ntwo\n", "rows.txt")
    assert text == ("text", [{"text": "one"}, {"text": "two"}])


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (1, "not an object"),
        ({}, "no file_name"),
        ({"file_name": "none.json"}, "is not there"),
        ({"file_name": ".", "formatting": "chatml"}, "no formatting 'chatml'"),
        ({"file_name": ".", "columns": []}, "`columns` must be an object"),
        ({"file_name": ".", "tags": {"role_tag": 1}}, "`tags.role_tag` must be text"),
        ({"file_name": ".", "ranking": "yes"}, "`ranking` must be"),
        ({"file_name": ".", "columns": {"system": "s"}}, "neither `prompt` nor `response`"),
        ({"file_name": ".", "columns": {"prompt": "p", "images": "i"}}, "pictures"),
        ({"hf_hub_url": "a/b", "ms_hub_url": "c/d"}, "Hugging Face hub"),
        ({"script_url": "x"}, "script"),
        ({"cloud_file_name": "s3://x"}, "cloud storage"),
    ],
)
def test_entries_that_cannot_be_imported(entry: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(entries.EntryFault, match=reason):
        entries.entry("e", entry, tmp_path)


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "many").mkdir(parents=True)
    (folder / "renamed.json").write_text(json.dumps([{"q": "a", "r": "b"}, {"q": "c"}]))
    for number in (2, 1):
        (folder / "many" / f"{number}.jsonl").write_text(json.dumps({"instruction": str(number), "output": "x"}) + "\n")
    known = {
        "renamed": {"file_name": "renamed.json", "columns": {"prompt": "q", "response": "r"}},
        "many files": {"file_name": "many"},
        "far": {"hf_hub_url": "org/far"},
    }
    (folder / "dataset_info.json").write_text(json.dumps(known))
    return folder


def test_a_registry_goes_up(imts: Imts, platform: Platform, registry: Path) -> None:
    shown = imts("datasets", "import", str(registry))
    assert shown.code == 0, shown.err
    assert shown.out.splitlines()[0].split("  ")[0] == "ENTRY"
    assert "It lies on the Hugging Face hub (hf_hub_url: org/far); only local files are imported." in shown.out
    assert platform.files[platform.datasets["many-files"]["id"]] == (
        b'{"instruction": "1", "output": "x"}\n{"instruction": "2", "output": "x"}\n'
    )
    only = imts("datasets", "import", str(registry / "dataset_info.json"), "--only", "renamed", "--json")
    document = json.loads(only.out)
    assert [one["dataset"]["name"] for one in document["imported"]] == ["renamed"]
    assert document["notImported"] == []


def test_what_cannot_go_up(imts: Imts, registry: Path, tmp_path: Path) -> None:
    assert "Did you mean 'renamed'?" in imts("datasets", "import", str(registry), "--only", "renamd").err
    assert imts("datasets", "import", str(registry), "--only", "far").code == 1
    assert "cannot be read: No such file" in imts("datasets", "import", str(tmp_path)).err
    file = registry / "dataset_info.json"
    for content, reason in ((b"{", "is not JSON"), (b"[]", "is no registry"), (b"\xff", "is not UTF-8")):
        file.write_bytes(content)
        refused = imts("datasets", "import", str(file))
        assert refused.code == 2
        assert reason in refused.err
    file.write_text(json.dumps({"a b": {"file_name": "renamed.json"}, "a-b": {"file_name": "renamed.json"}, "c": {}}))
    mixed = imts("datasets", "import", str(file))
    assert mixed.code == 1
    assert "Its name would be 'a-b', as that of 'a b' is." in mixed.out
    file.write_text("{}")
    assert imts("datasets", "import", str(file)).out == "The registry has no entries.\n"


@pytest.fixture
async def analyzer(config: ControlPlaneSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    from analyzer_service.api import app
    from analyzer_service.settings import settings

    settings.cache_clear()
    port = free_port()
    monkeypatch.setattr(config, "analyzer_url", f"http://127.0.0.1:{port}")
    async with served(app, port):
        yield


async def test_the_real_platform_takes_it(analyzer: None, url: str, new_key: NewKey, registry: Path) -> None:
    key = await new_key()
    for _ in range(2):
        code, out, err = await ran(url, key, "datasets", "import", str(registry), "--json")
        assert code == 0, err
        found = {one["entry"]: one["dataset"] for one in json.loads(out)["imported"]}
        shown = {entry: (one["version"], one["format"], one["rows"], one["badRows"]) for entry, one in found.items()}
        assert shown == {"renamed": (1, "alpaca", 2, 1), "many files": (1, "alpaca", 2, 0)}
    assert "`output` is missing" in (await ran(url, key, "datasets", "problems", "renamed"))[1]
