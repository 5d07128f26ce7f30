"""Images as tensors: by `decode` once into `cache`, read in `batches`, changed by `augment`."""
