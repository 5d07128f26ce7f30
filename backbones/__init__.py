"""CNN concept detectors, one a category and one for all images."""
