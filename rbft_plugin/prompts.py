"""The one place where the text that a model is shown is made. The wording is ours; the paper's is not public."""

from __future__ import annotations

import re

from rbft_plugin.dataset import Dataset

RATIONALE = """{domain}

Watch the whole video, then explain what it shows:
1. What is seen: the place, the people, animals and things in it.
2. What happens, in order, and what changes over time.
3. What in it matters for telling these classes apart, and what speaks for or against each of them:
{labels}
Say only what the video shows. Write a few connected sentences."""

LABEL = """{domain}

Which of these classes does the video belong to?
{labels}
Answer with the name of one class and nothing else."""


def rationale(dataset: Dataset) -> str:
    """What the base model is asked about a training video; it never shows the label."""
    return _filled(dataset.prompts.rationale or RATIONALE, dataset)


def label(dataset: Dataset) -> str:
    """What stage 2 trains and the evaluation asks; the wanted answer is the label's name alone."""
    return _filled(dataset.prompts.label or LABEL, dataset)


def _filled(template: str, dataset: Dataset) -> str:
    names = [label.name for label in dataset.labels]
    fields = {
        "domain": dataset.prompts.domain.strip(),
        "labels": "\n".join(f"- {label.name}: {label.description.strip()}" for label in dataset.labels),
        "names": f"{', '.join(names[:-1])} or {names[-1]}",
    }
    # in one pass: a description may hold {names} as a word of its own
    return re.sub(r"\{(domain|labels|names)\}", lambda m: fields[m.group(1)], template).strip()
