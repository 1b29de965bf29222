"""What is measured, each beside something real in the same run. None of this is a timed test."""
