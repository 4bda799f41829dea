-- Recordings on their way to an object store: as far as they came, so that a restart goes on there.
CREATE TABLE uploads (
    recording  TEXT PRIMARY KEY,
    object_key TEXT NOT NULL,
    state      TEXT NOT NULL,
    attempts   BIGINT NOT NULL,
    next_at_ms BIGINT NOT NULL,
    -- The store's name of an upload in parts, and the tags of the parts it has, JSON.
    upload     TEXT,
    tags       TEXT NOT NULL,
    sent_bytes BIGINT NOT NULL,
    error      TEXT
);
CREATE INDEX uploads_by_turn ON uploads (state, next_at_ms);
