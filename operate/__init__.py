"""Production: the service, actions, the decision log, monitoring, the review queue, the adjudicator."""
