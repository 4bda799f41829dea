-- Whether a programme's bitrate follows what this destination takes. `PRIMARY` is a word of SQL's own.
ALTER TABLE destinations ADD COLUMN is_primary BOOLEAN NOT NULL DEFAULT FALSE;
