"""What was reached: tables and pages from run folders; never torch."""
