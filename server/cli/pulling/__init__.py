"""`trackd pull`: events from Redis Streams, each stored once and acknowledged there when it is on disk here."""
