"""Running the model: ONNX Runtime, OpenVINO, batching and threads."""
