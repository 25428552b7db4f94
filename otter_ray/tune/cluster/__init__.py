"""Nodes, the plan of worker slots, the Ray session, authentication, job submission."""
