"""Who is calling: the key's role and project, and what that allows."""

from dataclasses import dataclass
from uuid import UUID

from control_plane.problems import Refusal, not_found
from imts_shared.contracts.access import Role

DEFAULT_PROJECT = "default"


@dataclass(frozen=True)
class Caller:
    key_id: UUID
    role: Role
    project: str | None
    """None for an admin, who sees every project."""

    def writes_in(self, asked: str | None) -> str:
        """The project that something new belongs to."""
        if self.project is None:
            return asked or DEFAULT_PROJECT
        if asked not in {None, self.project}:
            raise Refusal(
                403,
                "other_project",
                f"This key belongs to project {self.project!r} and cannot act in {asked!r}.",
                field="project",
                hint="Leave the field out, or use a key of that project.",
            )
        return self.project

    def reads_in(self, asked: str | None) -> str | None:
        """The project that a reading is limited to; None for an admin who asks for no project in particular."""
        if self.project is None:
            return asked
        if asked not in {None, self.project}:
            raise not_found("project", str(asked))
        return self.project
