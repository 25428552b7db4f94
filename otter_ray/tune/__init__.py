"""A study: `python -m otter_ray.tune CFG`. The only folder that imports ray."""
