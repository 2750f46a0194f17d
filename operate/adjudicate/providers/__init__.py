"""Who answers: endpoints, a local model, recorded transcripts, behind one protocol."""
