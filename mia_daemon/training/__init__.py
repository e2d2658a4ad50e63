"""Offline: scripts that make model bundles. The daemon never imports this."""
