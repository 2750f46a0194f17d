"""Running the model: `variants` chooses graph and engine, `batching` and `workers` run windows side by side."""

import os

# ONNX Runtime 1.32 starts a thread on import that sends figures about its use to its maker. A merchant's texts are
# scored where nothing is sent; and a forked process, which lacks the thread, would abort or wait for it at its exit.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
