"""What every other folder builds on: errors, files that are whole or absent, safe display, labels and decisions."""
