"""Tables as people write them: dialects, names of columns, what a cell means."""
