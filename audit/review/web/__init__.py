"""The review page in a browser: `SessionRegistry` and `serve`."""
