"""The pages: `app` has their addresses, each other module what one kind of page shows."""
