//! Workers that nobody here wrote: hono and itty-router, unmodified, through a node, by their own request scripts.
