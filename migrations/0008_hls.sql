-- Whether anybody may watch a stream over HLS.
ALTER TABLE streams ADD COLUMN hls BOOLEAN NOT NULL DEFAULT FALSE;
