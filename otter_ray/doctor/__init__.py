"""Whether this machine, a cluster and a config are fit for a study; each finding with its remedy."""
