"""Real sources on this machine, for tests and for the demo: a container registry, an apt repository."""
