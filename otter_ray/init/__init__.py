"""A new project, from a template that passes its own test."""
