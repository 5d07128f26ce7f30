"""What every network learns by: knows no image and no category."""
