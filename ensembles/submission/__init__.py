"""Editions' files: `write` makes one, `check` finds its faults, `score` is official."""
