"""The score to come: `forecast` estimates it, `shift` says whether test differs in kind."""
