//! vtep-bench.
fn main() {}
