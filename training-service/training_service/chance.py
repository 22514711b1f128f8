"""The states of all random generators that a training draws from."""

import random
from typing import Any, NamedTuple

import numpy
import torch


class Chance(NamedTuple):
    python: Any
    numpy: Any
    cpu: Any
    gpus: Any


def now() -> Chance:
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return Chance(random.getstate(), numpy.random.get_state(), torch.get_rng_state(), gpus)


def back_to(then: Chance) -> None:
    random.setstate(then.python)
    numpy.random.set_state(then.numpy)
    torch.set_rng_state(then.cpu)
    if then.gpus:
        torch.cuda.set_rng_state_all(then.gpus)
