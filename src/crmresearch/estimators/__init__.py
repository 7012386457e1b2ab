"""Arrays in, estimates out: no storage, no figure, no sentence."""
