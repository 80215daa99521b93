"""The longer proofs: `make prove`."""
