"""The one place where the text that a model is shown is made. The wording is ours; the paper's is not public."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rbft_plugin.spec.dataset import Dataset

Context = Sequence[tuple[str, str]]  # (name, text), as Sample.context

_STEPS = """1. What is seen: the place, the people, animals and things in it.
2. What happens, in order, and what changes over time.
"""

RATIONALE = f"""{{domain}}

{{context}}

Watch the whole video, then explain what it shows:
{_STEPS}3. What in it matters for telling these classes apart, and what speaks for or against each of them:
{{labels}}
Say only what the video shows. Write a few connected sentences."""

HINTED = f"""{{domain}}

{{context}}

These are the classes of such videos:
{{labels}}
This video is of the class "{{label}}". Watch the whole video, then explain from what it shows why that is so:
{_STEPS}3. What in it speaks for this class, and against each of the others.
Say only what the video shows. Write a few connected sentences, as if you had not been told the class."""

LABEL = """{domain}

{context}

Which of these classes does the video belong to?
{labels}
Answer with the name of one class and nothing else."""


def rationale(dataset: Dataset, context: Context = ()) -> str:
    """What the base model is asked about a training video; it never shows the label."""
    return _filled(dataset.prompts.rationale or RATIONALE, dataset, context)


def hinted(dataset: Dataset, label: str, context: Context = ()) -> str:
    """What the base model is asked where the mode is to show it the label; the rationale is not to say so."""
    return _filled(dataset.prompts.hinted or HINTED, dataset, context, {"label": label})


def label(dataset: Dataset, context: Context = ()) -> str:
    """What stage 2 trains and the evaluation asks; the wanted answer is the label's name alone."""
    return _filled(dataset.prompts.label or LABEL, dataset, context)


def _filled(template: str, dataset: Dataset, context: Context, more: dict[str, str] | None = None) -> str:
    """The template with its fields filled in; what is empty goes with the line breaks after it."""
    names = [label.name for label in dataset.labels]
    fields = {
        "domain": dataset.prompts.domain.strip(),
        "labels": "\n".join(f"- {label.name}: {label.description.strip()}" for label in dataset.labels),
        "names": f"{', '.join(names[:-1])} or {names[-1]}",
        "context": "\n".join(f"{name}: {text}" for name, text in context),
        **(more or {}),
    }
    if "{context}" not in template:
        template = "{context}\n\n" + template
    for name in (name for name, text in fields.items() if not text):
        template = re.sub(rf"\{{{name}\}}\n*", "", template)
    # in one pass: a description may hold {names} as a word of its own
    return re.sub(rf"\{{({'|'.join(fields)})\}}", lambda m: fields[m.group(1)], template).strip()
