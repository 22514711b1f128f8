"""The API's description of itself, made as strict as the API is."""

from typing import Any

from fastapi import FastAPI

NO_NUL = r"^[^\x00]*$"
_ANYTHING = "Anything"
_SAYS_MORE = frozenset({"pattern", "format", "enum", "const"})


def describe_strictly(app: FastAPI) -> None:
    """No text that is taken may hold a NUL character; pydantic's schemas cannot know that."""
    describe = app.openapi

    def strict() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = describe()
            _refuse_nul(schema["components"]["schemas"])
            schema["components"]["schemas"][_ANYTHING] = _anything()
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = strict  # type: ignore[method-assign]


def _refuse_nul(schema: Any) -> None:
    if isinstance(schema, list):
        for part in schema:
            _refuse_nul(part)
    elif isinstance(schema, dict):
        if schema.get("type") == "string" and not _SAYS_MORE & schema.keys():
            schema["pattern"] = NO_NUL
        if schema.get("additionalProperties") not in (None, False):
            names = schema.setdefault("propertyNames", {})
            if not _SAYS_MORE & names.keys():
                names["pattern"] = NO_NUL
        for place in ("additionalProperties", "items"):
            if schema.get(place) in (True, {}):
                schema[place] = {"$ref": f"#/components/schemas/{_ANYTHING}"}
        for part in schema.values():
            _refuse_nul(part)


def _anything() -> dict[str, Any]:
    """Any JSON at all, but for NUL characters however deep."""
    itself = {"$ref": f"#/components/schemas/{_ANYTHING}"}
    return {
        "title": _ANYTHING,
        "anyOf": [
            {"type": ["null", "boolean", "number"]},
            {"type": "string", "pattern": NO_NUL},
            {"type": "array", "items": itself},
            {"type": "object", "propertyNames": {"pattern": NO_NUL}, "additionalProperties": itself},
        ],
    }
