"""The data sets of DocAligner: simulated photographs, and annotated ones."""
