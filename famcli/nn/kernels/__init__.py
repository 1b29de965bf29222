"""What the networks compute with: attention, matrix products, and weights stored in few bits."""
