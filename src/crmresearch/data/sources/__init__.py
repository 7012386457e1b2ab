"""Where banks come from: the reader's own files, open data sets, the simulated reference bank."""
