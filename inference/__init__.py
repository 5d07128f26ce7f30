"""A finished ensemble on new images: `place` reads it, `stream` asks it, `tables` tells."""
