//! A worker: one pinned thread that moves frames between the queues it owns, run to completion.
