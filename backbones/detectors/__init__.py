"""Detectors from settings to predictions: `plan` and `jobs` say which, `run` makes them."""
