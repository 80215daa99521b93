"""Writing the pair: the writer, `MpesaSyncManager`, alerts. Never imports `live`; they meet in PostgreSQL."""
