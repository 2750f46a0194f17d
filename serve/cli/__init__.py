"""The commands `merchantguard score` and `merchantguard bench`."""
