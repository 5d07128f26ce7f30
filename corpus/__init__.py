"""From files to tensors: corpora, folds, the image cache."""
