"""Fusion networks: `heads` has a class a strategy; `train`, `late` and `end_to_end` fit them."""
