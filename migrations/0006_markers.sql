-- Moments of a broadcast that somebody wanted to find again. They outlive the stream, as its recordings do.
CREATE TABLE markers (
    id     TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    label  TEXT NOT NULL,
    at_ms  BIGINT NOT NULL
);
CREATE INDEX markers_of_stream ON markers (stream, at_ms, id);
