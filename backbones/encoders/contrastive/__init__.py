"""Models of images and texts: what they are by their files, and their text towers."""
