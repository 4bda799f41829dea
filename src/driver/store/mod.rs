//! Rows in SQLite or PostgreSQL through one portable SQL text.
