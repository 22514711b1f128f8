"""A proxy of one's own that lets the platform choose the model: ask before, report after.

IMTS_URL=http://127.0.0.1:8080 IMTS_API_KEY=... python examples/route_only.py "What is the notice period?"
"""

# ruff: noqa: T201
import sys
import time

from imts_client import Client


def ask(model: str, question: str) -> tuple[str, int]:
    """Stands for how this proxy asks models; answers the text and how many tokens it had."""
    return f"(what {model} says to: {question})", 42


def main() -> None:
    question = " ".join(sys.argv[1:]) or "What is the notice period?"
    with Client() as client:
        decision = client.routing.analyze(question)
        print(f"{decision.model}: {decision.reason}")

        began = time.monotonic()
        text, tokens = ask(decision.model, question)
        seconds = time.monotonic() - began
        print(text)

        client.routing.report(decision.decision_id, latency_seconds=seconds, output_tokens=tokens, cost=0.0004)
        # Whenever somebody has said how good it was:
        client.routing.feedback(decision.decision_id, rating=5)


if __name__ == "__main__":
    main()
