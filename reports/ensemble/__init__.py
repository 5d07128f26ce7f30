"""The page of an ensemble: `page` writes it, `run` reads the run, the others are its parts."""
