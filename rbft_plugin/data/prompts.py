"""Makes the prompts that a model is shown. The wording is ours, because that of the paper is not public."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rbft_plugin.spec.dataset import Dataset

Context = Sequence[tuple[str, str]]  # (name, text), as Sample.context

_STEPS = """1. What is seen: the place, the people, animals and things in it.
2. What happens, in order, and what changes over time.
"""

# A prompt asks for a conclusion if and only if it holds this line.
CONCLUSION = 'End with a last line of its own: "Answer: " and the name of the class that the video belongs to.'

RATIONALE = f"""{{domain}}

{{context}}

Watch the whole video, then explain what it shows:
{_STEPS}3. What in it matters for telling these classes apart, and what speaks for or against each of them:
{{labels}}
Say only what the video shows. Write a few connected sentences.

{{conclusion}}"""

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
    """The prompt for a rationale of a training video. It does not show the label."""
    return _filled(dataset.prompts.rationale or RATIONALE, dataset, context)


def without_conclusion(prompt: str) -> str:
    """A rationale prompt without its request for a conclusion."""
    return re.sub(rf"\n*{re.escape(CONCLUSION)}", "", prompt).strip()


def hinted(dataset: Dataset, label: str, context: Context = ()) -> str:
    """The prompt for a rationale that shows the label. The rationale should not say that it was shown."""
    return _filled(dataset.prompts.hinted or HINTED, dataset, context, label=label)


def label(dataset: Dataset, context: Context = ()) -> str:
    """The prompt of stage 2 and of the evaluation. The answer is the name of the label and nothing else."""
    return _filled(dataset.prompts.label or LABEL, dataset, context)


def _filled(template: str, dataset: Dataset, context: Context, **more: str) -> str:
    """The template with its fields filled in. An empty field is removed with the line breaks after it."""
    names = [label.name for label in dataset.labels]
    fields = {
        "domain": dataset.prompts.domain.strip(),
        "labels": "\n".join(f"- {label.name}: {label.description.strip()}" for label in dataset.labels),
        "names": f"{', '.join(names[:-1])} or {names[-1]}",
        "conclusion": CONCLUSION,
        "context": "\n".join(f"{name}: {text}" for name, text in context),
    } | more
    if "{context}" not in template:
        template = "{context}\n\n" + template
    for name, text in fields.items():
        if not text:
            template = re.sub(rf"\{{{name}\}}\n*", "", template)
    # In one pass, because a description may have {names} as a word of its own.
    return re.sub(rf"\{{({'|'.join(fields)})\}}", lambda m: fields[m.group(1)], template).strip()
