"""Real brokers for the tests, without a container engine: fetched once, started on free ports, stopped by pid."""
