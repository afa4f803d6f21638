"""Where sessions live: in Redis, or in this process's memory."""
