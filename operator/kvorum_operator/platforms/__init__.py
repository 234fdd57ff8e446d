"""Where clusters run. A platform sees and does what it is told; it decides nothing."""
