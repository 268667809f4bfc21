//! Rules on the source that the compiler does not check.
