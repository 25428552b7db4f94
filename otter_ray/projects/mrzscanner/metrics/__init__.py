"""The metrics of MRZScanner: texts by edit distance, regions by overlap."""
