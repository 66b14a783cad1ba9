"""Looking at a running proxy from a terminal, through its operators' endpoint."""
