//! Headers: one a file, each a view over bytes and a `Repr` with `parse` and `emit`.
