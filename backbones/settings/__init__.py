"""Settings of detectors: `config`, `presets`, the paper's experiments in `paper`."""
