"""Pictures of MRZScanner: galleries, sheets, and the model cards."""
