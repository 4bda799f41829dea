//! The vault: stream keys sealed with AES-256-GCM under the master key.
