"""Progress reporters: live view, plain lines, JSON lines, Prometheus."""
