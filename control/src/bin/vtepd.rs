//! vtepd.
fn main() {}
