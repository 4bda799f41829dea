//! The web studio's files, embedded in the binary.
