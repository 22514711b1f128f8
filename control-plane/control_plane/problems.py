"""Errors, from where they happen to what the caller reads.

Refusal is the one exception that a rule of ours raises; it carries what the problem document says.
"""

from imts_shared.contracts.problems import FieldProblem


class Refusal(Exception):
    """A request that a rule refuses. The api turns it into a problem document; nothing was changed."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        hint: str | None = None,
        errors: list[FieldProblem] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.hint = hint
        self.errors = errors
        self.headers = headers


def not_found(what: str, name: str) -> Refusal:
    return Refusal(404, f"unknown_{what.replace(' ', '_')}", f"There is no {what} {name!r} here.")
