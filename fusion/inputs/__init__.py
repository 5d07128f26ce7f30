"""What fusion is given: `gather` lines it up; `metadata` and `category` as numbers."""
