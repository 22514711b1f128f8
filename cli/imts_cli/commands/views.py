"""How a watched job is drawn: a progress bar below the lines on a terminal, lines alone elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Protocol

from imts_cli.commands.exits import note
from imts_cli.commands.output import clean, metrics_text, progress_text

QUIET_SECONDS = 10.0


class View(Protocol):
    def __enter__(self) -> "View": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def line(self, text: str) -> None: ...

    def aside(self, text: str) -> None: ...

    def state(self, state: str) -> None: ...

    def progress(self, data: dict[str, Any]) -> None: ...

    def metrics(self, data: dict[str, Any]) -> None: ...


def view_for_stdout() -> View:
    return LiveView() if sys.stdout.isatty() else PlainView()


class PlainView:
    """Progress at every tenth of the way, or after a while of silence."""

    def __init__(self) -> None:
        self._tenth = -1
        self._told_at = 0.0
        self._metrics = ""

    def __enter__(self) -> "PlainView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def line(self, text: str) -> None:
        print(clean(text), flush=True)

    def aside(self, text: str) -> None:
        note(text)

    def state(self, state: str) -> None:
        pass

    def progress(self, data: dict[str, Any]) -> None:
        percent = data.get("percent")
        tenth = int(percent // 10) if percent is not None else self._tenth
        if tenth == self._tenth and time.monotonic() - self._told_at < QUIET_SECONDS:
            return
        self._tenth, self._told_at = tenth, time.monotonic()
        self.line(f"{progress_text(data)}  {self._metrics}".rstrip())

    def metrics(self, data: dict[str, Any]) -> None:
        self._metrics = metrics_text(data)


class LiveView:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console()
        self._bar = Progress(
            TextColumn("{task.fields[state]}", markup=False, style="bold"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[steps]}", markup=False),
            TextColumn("{task.fields[newest]}", markup=False, style="cyan"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, state="", steps="", newest="")

    def __enter__(self) -> "LiveView":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        self._console.print(clean(text), markup=False, highlight=False, emoji=False, soft_wrap=True)

    def aside(self, text: str) -> None:
        self._console.print(clean(text), markup=False, highlight=False, emoji=False, style="dim")

    def state(self, state: str) -> None:
        self._bar.update(self._task, state=clean(state))

    def progress(self, data: dict[str, Any]) -> None:
        percent = data.get("percent")
        self._bar.update(
            self._task,
            total=None if percent is None else 100,
            completed=percent or 0,
            steps=progress_text(data),
        )

    def metrics(self, data: dict[str, Any]) -> None:
        self._bar.update(self._task, newest=clean(metrics_text(data)))
