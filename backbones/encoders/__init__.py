"""Encoders of any library by one string: what they state of themselves, built, asked."""
