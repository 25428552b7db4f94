"""Check whether this machine, a cluster and a config are ready for a study."""
