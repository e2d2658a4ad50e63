"""What the daemon says of itself: logs, samples, alerts, systemd and the control socket."""
