"""Rationales written in batches, against lmms-eval's own model at its batch size 1.

    python benchmarks/generation.py [--clips 32] [--rounds 5]

Every answer is as long as the limit, so that both write the same number of tokens: the tiny base would end after one
sentence.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import common

TOKENS = 64
PROMPT = "Describe what happens in the video."
SETTINGS = {"max_new_tokens": TOKENS, "do_sample": False, "temperature": 0, "until": []}


def main() -> None:
    options = common.arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        docs = common.clips(Path(folder), options.clips)
        asked = common.chat_requests(docs, PROMPT, SETTINGS)
        written = common.simple_requests(docs, PROMPT, [SETTINGS | {"min_new_tokens": TOKENS}])
        owns = {dtype: common.lmms_own(docs, dtype) for dtype in ("bfloat16", "float32")}
        for own in owns.values():
            own.model.generation_config.min_new_tokens = TOKENS  # its settings know no such key
        models = {size: common.rbft_vl(docs, size) for size in (1, 8, 16)}

        def ours(size: int) -> int:
            return sum(r.token_counts.output_tokens for r in models[size].generate_until(written))

        def theirs(dtype: str) -> int:
            return sum(r.token_counts.output_tokens for r in owns[dtype].generate_until(asked))

        assert ours(8) == theirs("bfloat16") == TOKENS * len(docs)
        cases = {
            "lmms-eval's qwen2_5_vl, batch 1": lambda: theirs("bfloat16"),
            "the same, made float32": lambda: theirs("float32"),
            "rbft_vl, batch 1": lambda: ours(1),
            "rbft_vl, batch 8": lambda: ours(8),
            "rbft_vl, batch 16": lambda: ours(16),
        }
        rates = common.measure(cases, options.rounds)
    own_name, own32, one, eight, sixteen = cases
    goals = [
        ("rbft_vl, batch 8, to lmms-eval's own", eight, own_name, "goal 3 or more"),
        ("rbft_vl, batch 8, to lmms-eval's own in float32", eight, own32, "no goal"),
        ("rbft_vl, batch 16, to lmms-eval's own", sixteen, own_name, "no goal"),
        ("rbft_vl, batch 1, to lmms-eval's own", one, own_name, "no goal"),
    ]
    common.report(
        "generation", "tokens/s", rates, goals, f"{len(docs)} clips of 8 frames, 56 x 56 pixels, {TOKENS} tokens each."
    )


if __name__ == "__main__":
    main()
