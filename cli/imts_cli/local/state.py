"""What the supervisor writes down for `status`, `down` and the next `up`."""

import json
from dataclasses import asdict, dataclass, field

from imts_cli.local.home import Home, write_whole
from imts_cli.local.processes import Record, of_run


@dataclass(frozen=True)
class ServiceState:
    name: str
    state: str
    pid: int | None
    started: str
    port: int
    restarts: int
    url: str | None


@dataclass(frozen=True)
class State:
    run: str
    pid: int
    started: str
    state: str
    url: str
    error: str | None = None
    services: list[ServiceState] = field(default_factory=list)

    @property
    def supervisor(self) -> Record:
        return Record(self.pid, self.started)

    def leftovers(self) -> list[Record]:
        """Processes of that run that live still: those on record, and those that carry the run's id."""
        recorded = [Record(s.pid, s.started) for s in self.services if s.pid is not None]
        return list({process.pid: process for process in (*recorded, *of_run(self.run)) if process.alive}.values())


def write(home: Home, state: State) -> None:
    write_whole(home.state, json.dumps(asdict(state), indent=1), mode=0o600)


def read(home: Home) -> State | None:
    """None when there is none, or it is damaged: then nothing in it may be trusted to name a process."""
    try:
        content = json.loads(home.state.read_text())
        services = [ServiceState(**service) for service in content.pop("services")]
        return State(**content, services=services)
    except (OSError, ValueError, TypeError, KeyError):
        return None
