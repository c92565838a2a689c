"""rbft: Rationale-Bootstrapped Fine-Tuning (arXiv 2511.15923) as a plugin over LLaMA-Factory and lmms-eval."""

from importlib.metadata import version

__version__ = version("rbft")
