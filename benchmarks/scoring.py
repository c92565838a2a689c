"""Label scoring by likelihood, against lmms-eval's own model generating the label, and against one prefill a video.

    python benchmarks/scoring.py [--clips 128] [--rounds 5]

Both read and answer all clips in one call. With few clips the start of rbft_vl's reading process weighs more.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import common

from rbft_plugin.model.loglikelihood import answer_ids

LABELS = ["passes through", "stops", "turns back", "leaves a box", "takes a box"]
PROMPT = "Which of these classes does the video belong to?\n" + "\n".join(f"- {name}" for name in LABELS)
SETTINGS = {"max_new_tokens": 64, "do_sample": False, "temperature": 0, "until": []}  # of an rbft_<name> task


def main() -> None:
    options = common.arguments(__doc__, clips=128)
    with tempfile.TemporaryDirectory() as folder:
        docs = common.clips(Path(folder), options.clips)
        asked = common.chat_requests(docs, PROMPT, SETTINGS)
        own = common.lmms_own(docs)
        own32 = common.lmms_own(docs, "float32")
        scored = common.simple_requests(docs, PROMPT, LABELS)
        models = {size: common.rbft_vl(docs, size) for size in (1, 8)}
        longest = max(len(answer_ids(models[1].processor, label)) for label in LABELS)
        brief = common.chat_requests(docs, PROMPT, SETTINGS | {"max_new_tokens": longest})
        said = statistics.mean(r.token_counts.output_tokens for r in own.generate_until(asked))

        def prefill(size: int) -> int:
            """One pass over video and prompt, read and batched in the same way, and nothing after it."""
            import torch

            from rbft_plugin.model.inputs import ModelInput, batches, on_device
            from rbft_plugin.model.loglikelihood import positions

            model, processor = models[size].model, models[size].processor
            samples = [ModelInput(PROMPT, doc["video"], 1) for doc in docs]
            with torch.no_grad():
                for _, inputs in batches(processor, samples, size, models[size].workers):
                    given = on_device(inputs, model)
                    model(**given, position_ids=positions(model, given), use_cache=True, logits_to_keep=1)
            return len(docs)

        cases = {
            "lmms-eval's qwen2_5_vl generates the label, batch 1": lambda: len(own.generate_until(asked)),
            f"the same, stopped after the longest label's {longest} tokens": lambda: len(own.generate_until(brief)),
            "lmms-eval's own, made float32": lambda: len(own32.generate_until(asked)),
            "one prefill a video, batch 1": lambda: prefill(1),
            "rbft_vl scores 5 labels, batch 1": lambda: len(models[1].loglikelihood(scored)) / len(LABELS),
            "one prefill a video, batch 8": lambda: prefill(8),
            "rbft_vl scores 5 labels, batch 8": lambda: len(models[8].loglikelihood(scored)) / len(LABELS),
        }
        rates = common.measure(cases, options.rounds)
    own_name, brief_name, own32_name, pre1, one, pre8, eight = cases
    goals = [
        ("rbft_vl, batch 8, to lmms-eval's own", eight, own_name, "goal 5 or more"),
        ("rbft_vl, batch 8, to lmms-eval's own, stopped", eight, brief_name, "no goal"),
        ("rbft_vl, batch 8, to lmms-eval's own in float32", eight, own32_name, "no goal"),
        ("one prefill a video to scoring, batch 8", pre8, eight, "goal 1.2 or less"),
        ("one prefill a video to scoring, batch 1", pre1, one, "no goal"),
    ]
    size = f"{len(docs)} clips of 8 frames, 56 x 56 pixels, {len(LABELS)} labels of up to {longest} tokens."
    common.report("scoring", "videos/s", rates, goals, f"{size} What lmms-eval's own writes has {said:.1f} on average.")


if __name__ == "__main__":
    main()
