"""Trains recorded batches once more, with one remedy at a time, in a process of its own: see ``failguard.trials``."""
