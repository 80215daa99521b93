"""mpesa-sync: a venue's M-Pesa switch and what its customers are offered, kept one fact."""
