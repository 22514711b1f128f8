"""From what is wanted and what is here to what is done."""

import pytest

from imts_shared.contracts.serving import WantedDeployment
from inference_service.keys import Key
from inference_service.worker.reconcile import Action, Do, actions
from tests.inference.plane import revision


def wanted(name: str = "a", revisions: tuple[int, ...] = (1,), replicas: int = 1, serving: int | None = 1) -> object:
    return WantedDeployment.model_validate(
        {
            "id": name,
            "name": name,
            "project": "default",
            "replicas": replicas,
            "servingRevision": serving,
            "revisions": [revision("builtin:tiny-qwen3", number) for number in revisions],
            "adapters": [],
            "drainSeconds": 5,
        }
    )


def key(text: str) -> Key:
    name, number, replica = text.split("/")
    return Key(name, int(number), int(replica))


@pytest.mark.parametrize(
    ("deployments", "gone", "held", "done"),
    [
        ([], [], [], []),
        ([], [], ["a/1/0"], ["end a/1/0"]),
        ([], [], ["a/1/0 drains"], ["end a/1/0"]),
        ([], ["a"], ["a/1/0"], ["drain a/1/0"]),
        ([], ["a"], ["a/1/0 drains"], []),
        ([wanted("b")], ["a"], ["a/1/0"], ["drain a/1/0", "start b/1/0"]),
        ([wanted()], [], [], ["start a/1/0"]),
        ([wanted()], [], ["a/1/0"], []),
        ([wanted(replicas=3)], [], ["a/1/1"], ["start a/1/0", "start a/1/2"]),
        ([wanted(replicas=1)], [], ["a/1/0", "a/1/1", "a/1/2"], ["drain a/1/1", "drain a/1/2"]),
        ([wanted(replicas=0)], [], ["a/1/0"], ["drain a/1/0"]),
        ([wanted(replicas=0)], [], ["a/1/0 drains"], []),
        ([wanted(revisions=(2, 1))], [], ["a/1/0"], ["start a/2/0"]),
        ([wanted(revisions=(2, 1))], [], [], ["start a/1/0", "start a/2/0"]),
        ([wanted(revisions=(2,), serving=2)], [], ["a/1/0", "a/2/0"], ["drain a/1/0"]),
        ([wanted(revisions=(1,))], [], ["a/1/0", "a/2/0"], ["drain a/2/0"]),
        ([wanted()], [], ["a/1/0 drains"], ["resume a/1/0"]),
        ([wanted("b")], [], ["a/1/0"], ["end a/1/0", "start b/1/0"]),
        ([wanted("a", replicas=0), wanted("b")], [], ["a/1/0"], ["drain a/1/0", "start b/1/0"]),
    ],
)
def test_what_is_done(deployments: list[WantedDeployment], gone: list[str], held: list[str], done: list[str]) -> None:
    here = {key(one.removesuffix(" drains")): one.endswith(" drains") for one in held}
    assert actions(deployments, gone, here) == [Action(Do(what), key(of)) for what, of in (one.split() for one in done)]
