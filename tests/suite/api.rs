//! The REST API as a caller sees it.
