"""Tells the control plane that this worker is there, until it is not."""

import threading
from time import monotonic

import httpx
from loguru import logger

from imts_shared.contracts.internal import WorkerBeat

BEAT_SECONDS = 2.0
TIMEOUT_SECONDS = 4.0
FRESH_SECONDS = 10.0


class Registrar:
    """A thread that beats. A control plane that is away is waited for, not an error."""

    def __init__(self, control_plane_url: str, service_key: str, beat: WorkerBeat) -> None:
        self._url = f"{control_plane_url.rstrip('/')}/internal/workers/{beat.worker_id}"
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {service_key}"}, timeout=TIMEOUT_SECONDS, trust_env=False
        )
        self._beat = beat
        self._now = threading.Event()
        self._leaving = threading.Event()
        self._accepted_at: float | None = None
        self._why = "the control plane has not been reached yet"
        self._thread = threading.Thread(target=self._run, name="registrar", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def drain(self) -> None:
        """Says at once that no more work should come here."""
        self._beat = self._beat.model_copy(update={"draining": True})
        self._now.set()

    def leave(self) -> None:
        self._leaving.set()
        self._now.set()
        if self._thread.ident is None:
            return
        self._thread.join(TIMEOUT_SECONDS)
        try:
            self._client.delete(self._url, timeout=2.0)
        except httpx.TransportError as error:
            logger.bind(why=str(error)).info("worker left unheard")

    def known(self) -> bool | str:
        """True while the control plane knows this worker; else why not."""
        if self._accepted_at is not None and monotonic() - self._accepted_at < FRESH_SECONDS:
            return True
        return self._why

    def _run(self) -> None:
        while not self._leaving.is_set():
            self._say()
            self._now.wait(BEAT_SECONDS if self._accepted_at is not None else BEAT_SECONDS / 4)
            self._now.clear()

    def _say(self) -> None:
        body = self._beat.model_dump_json(by_alias=True)
        try:
            answer = self._client.put(self._url, content=body, headers={"content-type": "application/json"})
        except httpx.TransportError as error:
            self._missed(f"the control plane is not reached: {error}")
            return
        if answer.is_success:
            if self._accepted_at is None:
                logger.bind(worker=self._beat.worker_id).info("worker registered")
            self._accepted_at = monotonic()
        else:
            self._missed(f"the control plane answers {answer.status_code}: {answer.text[:300]}")

    def _missed(self, why: str) -> None:
        if why != self._why:
            logger.bind(why=why).warning("worker not registered")
        self._why = why
