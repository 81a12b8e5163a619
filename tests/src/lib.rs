//! What no single crate can say: each file of `tests/` is about one such thing.
