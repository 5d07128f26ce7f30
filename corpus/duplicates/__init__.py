"""Images that are nearly the same: re-encoded, scaled, mirrored or cropped copies."""
