"""Answers from similar images: `nearest` and `approximate` find them, `votes` counts them."""
