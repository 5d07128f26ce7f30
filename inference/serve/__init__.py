"""Answers over HTTP: requests read within limits, and their images decided in blocks."""
