"""Repairing history: find what has drifted, correct it in race-proof batches, prove it."""
