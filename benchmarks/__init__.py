"""Measurements, each beside its limit in the same run. `make bench` prints them; ratios count, seconds do not."""
