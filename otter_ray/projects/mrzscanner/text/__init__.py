"""Machine-readable zones as text: ICAO 9303's formats, and the keys of the exported models."""
