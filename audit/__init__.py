"""label-audit: which labels to look at again, what people said of them, and the data that comes of it."""
