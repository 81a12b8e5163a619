//! The contract suite: what any store has to do.
