"""What the tiny models of single families need beside their conventions."""
