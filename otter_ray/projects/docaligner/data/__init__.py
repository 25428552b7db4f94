"""What DocAligner trains on, validates and tests with."""
