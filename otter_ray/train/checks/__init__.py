"""Check a config before a run: its keys, classes and options, and what Lightning would refuse."""
