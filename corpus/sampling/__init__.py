"""Fewer, better images: which of the training images are learnt from; faces: `choose`, `counts`."""
