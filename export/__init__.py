"""Checkpoint to model package: ONNX graphs, manifest, parity sample."""
