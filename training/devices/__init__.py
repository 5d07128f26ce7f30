"""Where and how to compute: `device`, `compute` on many processes, `speed` chosen by `probe`."""
