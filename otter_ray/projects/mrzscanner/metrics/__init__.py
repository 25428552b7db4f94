"""What is measured: texts by edit distance, regions by overlap."""
