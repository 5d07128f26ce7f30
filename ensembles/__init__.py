"""The second stage: stacking, thresholds, decisions, submissions; never torch."""
