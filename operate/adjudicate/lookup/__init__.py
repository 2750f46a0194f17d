"""Further pages of the merchant's own domain for a case that the text does not settle; off unless switched on."""
