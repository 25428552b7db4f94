"""A study on disk: its folder, journal, trials, finalists and migration. Imports neither ray nor torch."""
