"""Backbone, heads, losses, the LightningModules, and what is exported of them."""
