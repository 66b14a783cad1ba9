"""Rules to copy from; none is in use unless the configuration names it."""
