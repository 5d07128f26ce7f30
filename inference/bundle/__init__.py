"""A finished ensemble as one folder or zip: `write` and `card` make it, `read` asks it again."""
