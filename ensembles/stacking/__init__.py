"""Sources into one matrix: `candidates`, stackers by name in `registry`, `crossfit`."""
