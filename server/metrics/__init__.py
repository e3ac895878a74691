"""What Prometheus sees: series from announcements, gauges read at a scrape, and the counters of objectives."""
