-- Text that SQLite and PostgreSQL both read: TEXT ids, BIGINT milliseconds since the Unix epoch, JSON as TEXT that is only stored
-- and loaded. SQLite takes any type name; BYTEA is what PostgreSQL calls a blob.

CREATE TABLE rooms (
    id            TEXT PRIMARY KEY,
    owner         TEXT NOT NULL,
    title         TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);
CREATE INDEX rooms_newest ON rooms (created_at_ms, id);
CREATE INDEX rooms_newest_of_owner ON rooms (owner, created_at_ms, id);

CREATE TABLE destinations (
    id            TEXT PRIMARY KEY,
    owner         TEXT NOT NULL,
    name          TEXT NOT NULL,
    platform      TEXT NOT NULL,
    tls           BOOLEAN NOT NULL,
    host          TEXT NOT NULL,
    port          BIGINT NOT NULL,
    app           TEXT NOT NULL,
    -- Only ever sealed by the vault: the database and its backups hold no key that can be read.
    sealed_key    BYTEA NOT NULL,
    key_hint      TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);
CREATE INDEX destinations_newest ON destinations (created_at_ms, id);
CREATE INDEX destinations_newest_of_owner ON destinations (owner, created_at_ms, id);

CREATE TABLE streams (
    id              TEXT PRIMARY KEY,
    owner           TEXT NOT NULL,
    room            TEXT NOT NULL,
    title           TEXT NOT NULL,
    programme       TEXT NOT NULL,
    destinations    TEXT NOT NULL,
    record          BOOLEAN NOT NULL,
    idempotency_key TEXT,
    state           TEXT NOT NULL,
    reason          TEXT,
    created_at_ms   BIGINT NOT NULL,
    started_at_ms   BIGINT,
    ended_at_ms     BIGINT
);
CREATE INDEX streams_newest ON streams (created_at_ms, id);
CREATE INDEX streams_newest_of_owner ON streams (owner, created_at_ms, id);
-- NULLs differ from each other in both databases, so streams without a key never meet here.
CREATE UNIQUE INDEX streams_once_per_key ON streams (owner, idempotency_key);

-- No reference to streams: a recording outlives the stream it was made of.
CREATE TABLE recordings (
    id            TEXT PRIMARY KEY,
    stream        TEXT NOT NULL,
    owner         TEXT NOT NULL,
    room          TEXT NOT NULL,
    title         TEXT NOT NULL,
    part          BIGINT NOT NULL,
    file          TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    ended_at_ms   BIGINT,
    size_bytes    BIGINT,
    failure       TEXT
);
CREATE INDEX recordings_newest ON recordings (created_at_ms, id);
CREATE INDEX recordings_newest_of_owner ON recordings (owner, created_at_ms, id);
