"""What the answers say about the labels and the reviewers."""
