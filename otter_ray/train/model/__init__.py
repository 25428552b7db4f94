"""What a project's model is to a run: its mixin, its inputs, its size and what it logs."""
