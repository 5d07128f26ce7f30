"""Types and rules that every stage shares: numpy and scipy, never torch."""
