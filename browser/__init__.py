"""A local page over images, concepts and errors: `browse`.

`run` is the command's body; no other package imports from here.
"""
