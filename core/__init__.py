"""What every other folder builds on: errors, atomic files, safe display of hostile text, progress, labels and decisions."""
