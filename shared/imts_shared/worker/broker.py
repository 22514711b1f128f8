"""What sender and worker agree on in Redis: the task's name, the queue's shape, the Celery app."""

from celery import Celery
from kombu.entity import Exchange, Queue

TASK = "imts.run"


def own_queue(name: str) -> Queue:
    """A worker's own queue on the default exchange, where the routing key is the queue.

    Other exchanges keep their bindings in Redis; after a wipe a sender would find no binding and the message
    would go nowhere until the worker declared its queue again. Messages need no acknowledgement: the claim
    decides.
    """
    return Queue(name, Exchange(""), routing_key=name, no_ack=True)


def celery_app(redis_url: str, socket_timeout: float | None = None) -> Celery:
    app = Celery("imts", broker=redis_url, set_as_current=False)
    app.conf.update(
        broker_transport_options={
            "socket_connect_timeout": 2,
            "socket_timeout": socket_timeout,
            "socket_keepalive": True,
            "health_check_interval": 5,
        },
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_create_missing_queues=False,
    )
    return app
