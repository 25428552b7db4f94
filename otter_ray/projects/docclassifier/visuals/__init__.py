"""What DocClassifier shows of data and models: contact sheets, previews, report galleries, the model card."""
