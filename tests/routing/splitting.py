"""The examples in parts, so that what is much alike stands in one part: held-out accuracy then means something."""

import random
from collections import defaultdict

from inference_service.routing.examples import Example
from inference_service.routing.text import tokens

RARE = 8


def parts(examples: list[Example], count: int, seed: int = 0) -> list[list[Example]]:
    """Alike are prompts of a language that share half their tokens, and those of two languages that share a rare token
    (a number, a name, a piece of code): they may be translations of each other."""
    read = [set(tokens(example.text)) for example in examples]
    group = list(range(len(examples)))

    def leader(at: int) -> int:
        while group[at] != at:
            at = group[at]
        return at

    having: dict[str, list[int]] = defaultdict(list)
    for at, found in enumerate(read):
        for token in found:
            having[token].append(at)
    for token, places in having.items():
        if len(places) <= RARE and token.isascii():
            for one in places:
                for other in places:
                    if examples[one].language != examples[other].language and _same_domain(examples, one, other):
                        group[leader(one)] = leader(other)
    for one in range(len(examples)):
        for other in range(one):
            if (
                examples[one].language == examples[other].language
                and _same_domain(examples, one, other)
                and 2 * len(read[one] & read[other]) >= len(read[one] | read[other])
            ):
                group[leader(one)] = leader(other)
    chance = random.Random(seed)
    part_of = {at: chance.randrange(count) for at in sorted({leader(at) for at in range(len(examples))})}
    found_parts: list[list[Example]] = [[] for _ in range(count)]
    for at, example in enumerate(examples):
        found_parts[part_of[leader(at)]].append(example)
    return found_parts


def _same_domain(examples: list[Example], one: int, other: int) -> bool:
    return examples[one].domain == examples[other].domain
