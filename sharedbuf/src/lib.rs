//! Reference-counted buffers, slices and writev queues for network servers.
