"""Networks of others in our harness: same crops, losses, checks and figures as CSNet, one table."""
