"""The built-in demo: generated videos of a night camera, and a tiny base model that can describe videos."""
