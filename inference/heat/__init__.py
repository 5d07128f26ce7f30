"""Where in an image a detector finds a concept: layers with places, their evidence, its picture."""
