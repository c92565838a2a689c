"""Command lines, typed as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# What turns recipes/stage1.yaml and stage2.yaml into a training of seconds.
TINY = [
    *("model_name_or_path=base", "bf16=false", "use_cpu=true", "lora_rank=4"),
    *("freeze_vision_tower=false", "freeze_multi_modal_projector=false"),
    *("max_steps=3", "warmup_steps=0", "gradient_accumulation_steps=1", "per_device_train_batch_size=2"),
    *("preprocessing_num_workers=1", "dataloader_num_workers=0", 'save_strategy="no"', "plot_loss=false"),
]


def sh(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user types it, in bash; stderr goes to stdout."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | env,  # tests may run side by side
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
