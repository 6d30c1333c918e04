//! How components of a cluster talk to the API server: connection, informers, work queues, events.
