"""The content of one message, as blocks. Blocks of nothing but white space are left out: Anthropic refuses them."""

from typing import Any

from inference_service.gateway.anthropic.refusals import not_carried, wrong

Block = dict[str, Any]

_IMAGES = {
    "image/jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",
    "image/png": "image/png",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
}
_PDF = "application/pdf"


def text_blocks(content: object, where: str) -> list[Block]:
    """Of a message that can hold words alone."""
    return [_text(part, at) for part, at in _parts(content, where) if _says_something(part, at)]


def blocks(content: object, where: str) -> list[Block]:
    """Of a message that can hold images and files as well."""
    found = []
    for part, at in _parts(content, where):
        if part.get("type") == "image_url":
            found.append(_marked(_image(part, at), part, at))
        elif part.get("type") == "file":
            found.append(_marked(_file(part, at), part, at))
        elif _says_something(part, at):
            found.append(_text(part, at))
    return found


def marking(part: Block, at: str) -> Block:
    """The caller's mark of what is to be cached, which OpenAI has not and Anthropic's users add."""
    mark = part.get("cache_control")
    if mark is None:
        return {}
    if not isinstance(mark, dict):
        raise wrong(f"{at}.cache_control", 'must be an object such as {"type": "ephemeral"}')
    return {"cache_control": mark}


def _parts(content: object, where: str) -> list[tuple[Block, str]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [({"type": "text", "text": content}, where)]
    if not isinstance(content, list):
        raise wrong(where, "must be a string or a list of parts")
    for number, part in enumerate(content):
        if not isinstance(part, dict):
            raise wrong(f"{where}[{number}]", 'must be an object such as {"type": "text", "text": "..."}')
    return [(part, f"{where}[{number}]") for number, part in enumerate(content)]


def _says_something(part: Block, at: str) -> bool:
    kind = part.get("type")
    if kind not in ("text", "refusal"):
        raise not_carried(f"{at}.type", "send text here, or in a message of the user image_url or file")
    text = part.get(kind)
    if not isinstance(text, str):
        raise wrong(f"{at}.{kind}", "must be a string")
    return bool(text) and not text.isspace()


def _text(part: Block, at: str) -> Block:
    return _marked({"type": "text", "text": part[part["type"]]}, part, at)


def _marked(block: Block, part: Block, at: str) -> Block:
    return {**block, **marking(part, at)}


def _image(part: Block, at: str) -> Block:
    """`detail` is left out: it says how finely to look, and Anthropic always looks finely."""
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str):
        raise wrong(f"{at}.image_url.url", "must be a string")
    if url[:8].lower() == "https://":
        return {"type": "image", "source": {"type": "url", "url": url}}
    kind, data = _data_url(url, f"{at}.image_url.url", "an https:// address or a data: URL in base64")
    if kind not in _IMAGES:
        raise not_carried(f"{at}.image_url.url", "send a JPEG, PNG, GIF or WebP")
    return {"type": "image", "source": {"type": "base64", "media_type": _IMAGES[kind], "data": data}}


def _file(part: Block, at: str) -> Block:
    given = part.get("file")
    if not isinstance(given, dict):
        raise wrong(f"{at}.file", "must be an object")
    if given.get("file_id") is not None:
        raise not_carried(f"{at}.file.file_id", "send the file itself as file_data")
    url = given.get("file_data")
    if not isinstance(url, str):
        raise wrong(f"{at}.file.file_data", "must be a string")
    kind, data = _data_url(url, f"{at}.file.file_data", "a data: URL in base64")
    if kind != _PDF:
        raise not_carried(f"{at}.file.file_data", "send a PDF")
    block: Block = {"type": "document", "source": {"type": "base64", "media_type": _PDF, "data": data}}
    name = given.get("filename")
    return {**block, "title": name} if isinstance(name, str) and name else block


def _data_url(url: str, param: str, must_be: str) -> tuple[str, str]:
    head, _, data = url.partition(",")
    kind, *settings = head[5:].lower().split(";")
    if head[:5].lower() != "data:" or "base64" not in settings or not data:
        raise wrong(param, f"must be {must_be}")
    return kind, data
