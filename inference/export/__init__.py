"""What others can run: detectors as ONNX graphs, a bundle as Hugging Face's hub takes it."""
