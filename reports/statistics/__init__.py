"""A corpus in numbers: `page` writes them, `counts` has all of them."""
