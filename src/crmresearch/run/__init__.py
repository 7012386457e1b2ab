"""Running notebooks: command line, batch, sweeps, workers, and the reviewers' site."""
