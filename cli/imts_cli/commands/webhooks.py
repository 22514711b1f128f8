"""imts webhooks"""

from typing import Annotated

import typer

from imts_cli.commands.exits import command_group, note
from imts_cli.commands.output import age, table
from imts_cli.commands.platform import AsJson, Limit, fetch, fetch_list, print_json
from imts_client.calls import access as calls

app = command_group("Webhooks: where the platform tells of jobs, and what it has told.")

WebhookId = Annotated[str, typer.Argument(metavar="ID")]


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="Where deliveries are posted.")],
    state: Annotated[list[str] | None, typer.Option(help="Told of this state; may be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind of job; may be repeated.")] = None,
    project: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """Create a webhook. Its secret is shown this once: it goes to stdout alone."""
    hook = fetch(calls.create_webhook(url, state or [], kind or [], project))
    if as_json:
        print_json(hook)
        return
    note(f"Webhook {hook['id']} is told of {', '.join(hook['states'])}; its secret is shown this once:")
    print(hook["secret"])


@app.command("list")
def list_webhooks(as_json: AsJson = False) -> None:
    """List the webhooks."""
    found = fetch_list(calls.webhooks(), None)
    if as_json:
        print_json(found)
        return
    table(
        ("ID", "URL", "PROJECT", "STATES", "KINDS"),
        (
            (
                hook["id"],
                hook["url"],
                hook["project"],
                ",".join(hook["states"]),
                ",".join(hook["kinds"]) or "all",
            )
            for hook in found["items"]
        ),
        "There are no webhooks.",
    )


@app.command()
def delete(webhook_id: WebhookId, as_json: AsJson = False) -> None:
    """Delete a webhook and its deliveries."""
    answer = fetch(calls.delete_webhook(webhook_id))
    if as_json:
        print_json(answer)
    else:
        print(f"Webhook {webhook_id} is deleted.")


@app.command()
def deliveries(webhook_id: WebhookId, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List what was delivered, what failed and what is tried again."""
    found = fetch_list(calls.deliveries(webhook_id), limit)
    if as_json:
        print_json(found)
        return
    table(
        ("ID", "STATE", "TRIES", "NEXT TRY", "LAST ANSWER", "CREATED"),
        (
            (
                one["id"],
                one["state"],
                one["tries"],
                age(one["nextTryAt"]),
                one["lastStatus"] or one["lastError"],
                age(one["createdAt"]),
            )
            for one in found["items"]
        ),
        "Nothing was delivered yet.",
    )


@app.command()
def redeliver(
    webhook_id: WebhookId,
    delivery_id: Annotated[str, typer.Argument(metavar="DELIVERY")],
    as_json: AsJson = False,
) -> None:
    """Send a delivery once more."""
    answer = fetch(calls.redeliver(webhook_id, delivery_id))
    if as_json:
        print_json(answer)
    else:
        print(f"Delivery {delivery_id} is sent again.")
