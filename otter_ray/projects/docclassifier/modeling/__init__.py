"""The LightningModule, heads, losses and the CLIP teacher."""
