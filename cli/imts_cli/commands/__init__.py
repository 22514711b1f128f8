"""The commands that speak to a platform."""

import typer


def register(app: typer.Typer) -> None:
    from imts_cli.commands import (
        datasets,
        deploy,
        deployments,
        jobs,
        keys,
        limits,
        models,
        projects,
        providers,
        quickstart,
        routes,
        sweeps,
        tokens,
        train,
        usage,
        webhooks,
        workers,
    )
    from imts_cli.commands.exits import EPILOG, ReportingGroup

    app.info.cls = ReportingGroup
    app.info.epilog = EPILOG
    app.command("train", help=train.HELP)(train.train)
    app.command("deploy", help=deploy.HELP)(deploy.deploy)
    app.command("quickstart")(quickstart.quickstart)
    app.add_typer(jobs.app, name="jobs")
    app.add_typer(workers.app, name="workers")
    app.add_typer(datasets.app, name="datasets")
    app.add_typer(models.app, name="models")
    app.add_typer(deployments.app, name="deployments")
    app.add_typer(sweeps.app, name="sweeps")
    app.add_typer(providers.app, name="providers")
    app.add_typer(routes.app, name="route")
    app.command("usage", help=usage.HELP)(usage.usage)
    app.add_typer(limits.app, name="limits")
    app.add_typer(keys.app, name="keys")
    app.add_typer(projects.app, name="projects")
    app.add_typer(tokens.app, name="tokens")
    app.add_typer(webhooks.app, name="webhooks")
