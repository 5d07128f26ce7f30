"""An archive of images, divided into units that are decided by whomever, and joined."""
