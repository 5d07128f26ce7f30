"""What the second stage is fitted by: `logistic` regression, `line_search`, `features`."""
