"""The data sets: drawn crops, documents and scenes, and annotated photographs."""
