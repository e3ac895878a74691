"""`trackd pull` against a real Redis: needs `redis-server` (Debian's package of that name) on the PATH.

Where it is missing these tests are skipped, unless TRACKD_REDIS_REQUIRED is set, as CI does: then they fail.
"""
