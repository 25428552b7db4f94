"""What projects on images share: backbones, drawing, camera simulation, image cache, near-duplicates."""
