"""A finished ensemble on new images: `workspace` reads it, `stream` asks it, `tables` tells."""
