"""The seven commands of `label-audit`, and the options they share (`options`)."""
