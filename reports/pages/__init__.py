"""How pages look: `markdown`, `html`, `figures`."""
