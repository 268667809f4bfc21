//! vtepctl.
fn main() {}
