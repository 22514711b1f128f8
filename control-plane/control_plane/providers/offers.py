"""The models that a provider offers: each name once, no model in its own place, no route hidden."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.problems import Refusal
from control_plane.routing.naming import routes_among
from imts_shared.contracts.providers import ProviderModel


def check_offers(models: Sequence[ProviderModel]) -> None:
    seen: dict[str, int] = {}
    for place, model in enumerate(models):
        if model.name in seen:
            raise Refusal(
                409,
                "model_twice",
                f"models.{seen[model.name]} and models.{place} are both called {model.name!r}.",
                field=f"models.{place}.name",
                hint="Give each model of a provider a name of its own; upstreamName may be the same.",
            )
        seen[model.name] = place
        if model.name in model.fallbacks:
            raise Refusal(
                409,
                "own_fallback",
                f"{model.name!r} cannot take its own place.",
                field=f"models.{place}.fallbacks.{model.fallbacks.index(model.name)}",
                hint="Name other models as its fallbacks.",
            )


async def check_hides_no_route(session: AsyncSession, project: str | None, models: Sequence[ProviderModel]) -> None:
    routes = await routes_among(session, project, [model.name for model in models])
    for place, model in enumerate(models):
        if model.name in routes:
            raise Refusal(
                409,
                "name_of_route",
                f"{model.name!r} is the name of a route.",
                field=f"models.{place}.name",
                hint="Give the model another name; upstreamName says what the provider calls it.",
            )
