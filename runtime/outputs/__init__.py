"""Where results go: records, pictures, pages and messages. Each output is a sink with a queue before it."""
