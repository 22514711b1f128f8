"""What the documents say of the code, where that can be compared."""

import re
from pathlib import Path

from imts_shared.contracts.envelope import JobRequest
from imts_shared.contracts.training import TrainingRequest

ROOT = Path(__file__).parent.parent.parent


def test_the_guide_to_training_names_every_field_and_no_other() -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    section = text.split("## Fields", 1)[1].split("\n## ", 1)[0]
    named = [
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    ]
    own = set(TrainingRequest.model_fields) - set(JobRequest.model_fields)
    assert sorted(named) == sorted(str(TrainingRequest.model_fields[field].alias) for field in own)
    beside = {str(field.alias) for field in JobRequest.model_fields.values()}
    assert beside <= set(re.findall(r"`(\w+)`", section))


def test_files_that_documents_point_to_are_there() -> None:
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
