//! The `jamcast` binary.

fn main() {}
