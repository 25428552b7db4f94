"""Pictures of DocAligner: sheets of scenes, galleries, and the model card."""
