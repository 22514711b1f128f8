"""What the classifier is compared with: counting typical words. The words are those that it is trained on as well."""

import re
from collections import Counter, defaultdict

from inference_service.routing.examples import Example

UNPARTED = ("zh", "ja", "ko")


class Keywords:
    def __init__(self, lists: list[Example]) -> None:
        self._domains: dict[str, dict[str, str]] = defaultdict(dict)
        for each in lists:
            for word in each.text.split():
                self._domains[each.language].setdefault(word, each.domain)

    def domain(self, text: str, language: str) -> str:
        lower = text.lower()
        words = [] if language in UNPARTED else re.findall(r"\w+", lower)
        votes = Counter(
            domain
            for word, domain in self._domains[language].items()
            if (word in lower if language in UNPARTED else any(found.startswith(word) for found in words))
        )
        return votes.most_common(1)[0][0] if votes else "general"
