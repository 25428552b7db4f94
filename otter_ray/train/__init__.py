"""One run: Otter's building blocks and `python -m otter_ray.train CFG`. Knows nothing of Ray."""
