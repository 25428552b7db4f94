"""The projects that come with otter_ray. Nobody imports them; a config's `project:` names one.

To add one: `otter-ray init NAME` makes a project in a package of your own (`init/project.py`), and any module
that can be imported may be named (`train/registry.py`). A folder here is for what ships with otter_ray.
"""
