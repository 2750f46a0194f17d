"""Online evaluation: the audit sample, precision and recall in production, drift, champion and challenger."""
