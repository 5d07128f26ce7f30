"""The command line: each command parses, overlays settings and calls one function."""
