"""The simulated bank whose truth is known, and the trials of every estimator on it."""
