"""What operators watch: health checks, metrics for Prometheus, logs as JSON. docs/monitoring.md tells how to use it."""
