"""Published corpora as they lie on disk, a module a family of them."""
