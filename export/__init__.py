"""From a run to a bundle: merge the adapter, write the ONNX graph, prove parity, write the folder."""
