"""What people see of DocAligner: sheets of scenes, galleries and the card."""
