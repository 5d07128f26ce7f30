"""The phantom corpus: drawn images of seven modalities, with concepts that can be seen in them."""
