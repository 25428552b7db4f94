"""The models of MRZScanner: backbone, heads, losses, LightningModules and export wrappers."""
