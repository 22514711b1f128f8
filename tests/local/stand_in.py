"""A small platform for the supervisor: real Postgres and Valkey, and services that only answer HTTP.

`python -m tests.local.stand_in platform` is the supervisor, `... serve PORT` one service of it.
"""

import http.server
import os
import subprocess
import sys

from imts_cli.local import LocalError, postgres, valkey
from imts_cli.local.home import home_from_environment
from imts_cli.local.ports import ports_from_environment
from imts_cli.local.services import Plan, Service, Step, answers_ready
from imts_cli.local.supervisor import Supervisor


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def serve(port: int) -> None:
    """With a child of its own, in a group of its own, as a worker has."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
    http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()


def service(name: str, port: int, *, needs_schema: bool, order: int) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-m", "tests.local.stand_in", "serve", str(port)),
        port=port,
        answers=lambda: answers_ready(port),
        url=f"http://127.0.0.1:{port}",
        needs_schema=needs_schema,
        stop_order=order,
    )


def platform() -> int:
    home = home_from_environment()
    ports = ports_from_environment()
    home.prepare()
    lock = home.lock()
    assert lock is not None
    plan = Plan(
        url=f"http://127.0.0.1:{ports['control-plane']}",
        servers=(postgres.service(home, ports["postgres"]), valkey.service(home, ports["valkey"])),
        steps=(Step("nothing", (sys.executable, "-c", "print('done')")),),
        services=(
            service("control-plane", ports["control-plane"], needs_schema=True, order=1),
            service("worker", ports["analyzer-worker"], needs_schema=False, order=0),
        ),
        environment=dict(os.environ),
    )
    try:
        Supervisor(home, plan, print).run(lambda: print("ready", flush=True))
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(platform() if sys.argv[1] == "platform" else serve(int(sys.argv[2])))
