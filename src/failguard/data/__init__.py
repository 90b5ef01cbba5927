"""Datasets: checks before training, comparison of splits, profiles, and what false positives have in common.

pandas, scipy, scikit-learn and narwhals are of the extra ``failguard-ml[data]`` and loaded when a function needs them.
"""
