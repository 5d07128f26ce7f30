"""Images as tensors: decoded once in `cache`, read in `batches`, changed by `augment`."""
