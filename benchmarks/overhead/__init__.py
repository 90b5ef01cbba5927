"""What watching costs: per training step beside the same run without it, in memory, on disk, at import, in calls.

``python -m benchmarks.overhead --help`` says how to run it; ``docs/scale.md`` explains what the figures mean at scale.
"""
