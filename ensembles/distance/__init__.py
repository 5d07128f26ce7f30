"""How far images lie from those that were learnt from, and what that costs in score."""
