//! Slab memory: generational slabs and size-classed block pools for network servers.
