"""``failguard demo``: healthy and failing trainings on real data, watched in Lightning and in Keras."""

from failguard.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]
