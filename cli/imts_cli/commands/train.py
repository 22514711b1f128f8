"""imts train"""

from typing import Annotated

import typer

from imts_cli.commands.jobs import submit
from imts_cli.commands.platform import AsJson

HELP = """Submit a training job, for example: imts train -f job.yaml --watch

The file holds the job's fields as YAML or JSON; a LLaMA-Factory configuration is taken as it is.
"""


def train(
    assignments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields.")] = None,
    file: Annotated[str | None, typer.Option("-f", "--file", help="Fields as YAML or JSON; - reads stdin.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    project: Annotated[str | None, typer.Option(help="Only an admin key may name another project.")] = None,
    priority: Annotated[int | None, typer.Option(help="-100 to 100; higher goes first.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value; may be repeated.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key never makes a second job.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Watch the job until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    submit("training", assignments, file, name, project, priority, label, idempotency_key, watch, as_json)
