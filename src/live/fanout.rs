//! One encode to many destinations: a bounded, GOP-aware queue for each.
