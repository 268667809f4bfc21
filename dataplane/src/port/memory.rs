//! Frames and ports in ordinary memory: for tests and benches of everything above the kernel.
