"""The process and what one run of it needs: checked, opened, commanded, reported and closed."""
