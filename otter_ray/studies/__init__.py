"""The studies of a folder, side by side. Imports neither ray nor torch."""
