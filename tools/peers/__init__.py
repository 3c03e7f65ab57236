"""Networks of others, trained and measured as CSNet is: same crops, losses, checks and figures, one table."""
