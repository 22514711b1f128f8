"""Why a replica cannot serve, in words for the one who asked for it."""

from imts_shared.contracts.deployments import USERS_MISTAKES, DeploymentReason


class CannotServe(Exception):
    def __init__(self, reason: DeploymentReason, message: str, hint: str | None = None, *, final: bool = False) -> None:
        """`final`: trying again changes nothing, though the reason alone would not say so."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
        self.final = final or reason in USERS_MISTAKES


def bad_model(message: str, hint: str | None = None) -> CannotServe:
    return CannotServe(DeploymentReason.bad_model, message, hint)
