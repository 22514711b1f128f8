"""imts workers"""

from imts_cli.commands.exits import command_group
from imts_cli.commands.output import age, table
from imts_cli.commands.platform import AsJson, fetch_list, print_json
from imts_client.calls import jobs as calls

app = command_group("The workers, what they run and how busy they are.", alone=True)


@app.callback()
def workers(as_json: AsJson = False) -> None:
    """The workers, what they run and how busy they are."""
    found = fetch_list(calls.workers(), None)
    if as_json:
        print_json(found)
        return
    table(
        ("ID", "SERVICE", "KINDS", "BUSY", "STATE", "HOST", "SEEN"),
        (
            (
                worker["id"],
                worker["service"],
                ",".join(worker["kinds"]),
                f"{worker['busy']}/{worker['slots']}",
                "lost" if not worker["alive"] else "draining" if worker["draining"] else "alive",
                worker["host"],
                age(worker["seenAt"]),
            )
            for worker in found["items"]
        ),
        "No worker has registered.",
    )
