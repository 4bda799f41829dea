-- A second server that takes over when the first is lost: its address, JSON, and a key of its own, sealed, if it has one.
ALTER TABLE destinations ADD COLUMN backup TEXT;
ALTER TABLE destinations ADD COLUMN backup_sealed_key BYTEA;
