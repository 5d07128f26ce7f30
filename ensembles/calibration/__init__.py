"""Calibrated probabilities: `choose` picks among `temperature`, `vector` and `isotonic`."""
