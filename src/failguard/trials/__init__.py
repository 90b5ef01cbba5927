"""Trials of remedies as the rest of failguard sees them: their results, their process, their words in the report."""
