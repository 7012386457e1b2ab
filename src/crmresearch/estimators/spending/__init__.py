"""What winning and keeping cost, and how spend is best split between them."""
