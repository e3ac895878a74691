"""The trackd daemon: streams of events in, each kept exactly once, questions answered."""
