"""Compare models on the same items: the winner with the base config, and with the other trials' models."""
