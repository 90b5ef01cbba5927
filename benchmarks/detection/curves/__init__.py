"""Calibration of the loss-curve detectors on a seeded zoo of synthetic curves."""
