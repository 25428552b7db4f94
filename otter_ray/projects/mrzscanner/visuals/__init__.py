"""What is shown of a model and its data: galleries, sheets, and its card."""
