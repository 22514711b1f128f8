"""Rings at a worker: sends the message that an attempt waits to be claimed. The watcher's side of Redis."""

import threading
from uuid import uuid4

from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import KombuError
from kombu.messaging import Producer
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from imts_shared.contracts.internal import RunMessage
from imts_shared.worker.broker import TASK, celery_app

MESSAGE_EXPIRES_SECONDS = 60
QUEUE_EXPIRES_SECONDS = 600
SOCKET_TIMEOUT_SECONDS = 1.0


class DoorbellAway(ConnectionError):
    """Redis cannot be reached; the message was, as far as is known, not sent."""


class Doorbell:
    """One connection to Redis, shared by all threads that ring."""

    def __init__(self, redis_url: str) -> None:
        self._app: Celery = celery_app(redis_url, SOCKET_TIMEOUT_SECONDS)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._producer: Producer | None = None

    def ring(self, queue: str, message: RunMessage) -> None:
        """Sends once, and once more over a fresh connection when the one kept turns out dead.

        A message sent twice does no harm: the second delivery's claim is refused.
        """
        with self._lock:
            kept = self._producer is not None
            try:
                self._send(queue, message)
                return
            except (RedisError, KombuError, OSError) as error:
                self._hang_up()
                if not kept or isinstance(error, RedisTimeoutError):
                    raise DoorbellAway(f"Redis cannot be reached: {error}") from error
            try:
                self._send(queue, message)
            except (RedisError, KombuError, OSError) as error:
                self._hang_up()
                raise DoorbellAway(f"Redis cannot be reached: {error}") from error

    def close(self) -> None:
        with self._lock:
            self._hang_up()

    def _send(self, queue: str, message: RunMessage) -> None:
        if self._producer is None:
            self._connection = self._app.connection_for_write()
            self._connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, interval_max=0)
            self._producer = Producer(self._connection.channel(), serializer="json", auto_declare=False)
        task = self._app.amqp.as_task_v2(
            str(uuid4()),
            TASK,
            kwargs={"message": message.model_dump(mode="json")},
            kwargsrepr=f"job {message.job_id} attempt {message.attempt}",
            argsrepr="()",
            expires=MESSAGE_EXPIRES_SECONDS,
            ignore_result=True,
        )
        self._producer.publish(
            task.body, exchange="", routing_key=queue, headers=task.headers, retry=False, **task.properties
        )
        self._producer.channel.client.expire(queue, QUEUE_EXPIRES_SECONDS)

    def _hang_up(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.collect(socket_timeout=SOCKET_TIMEOUT_SECONDS)


_doorbells: dict[str, Doorbell] = {}
_doorbells_lock = threading.Lock()


def publish(redis_url: str, queue: str, message: RunMessage) -> None:
    """Sends `message` to a worker's queue; raises DoorbellAway within seconds when Redis does not answer."""
    with _doorbells_lock:
        doorbell = _doorbells.get(redis_url)
        if doorbell is None:
            doorbell = _doorbells[redis_url] = Doorbell(redis_url)
    doorbell.ring(queue, message)
