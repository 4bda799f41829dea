-- Whether the musicians' tracks are recorded beside the programme.
ALTER TABLE streams ADD COLUMN stems BOOLEAN NOT NULL DEFAULT FALSE;

-- Whose track a file holds, and whether that is "audio" or "video"; a programme has neither.
ALTER TABLE recordings ADD COLUMN musician TEXT;
ALTER TABLE recordings ADD COLUMN media TEXT;
-- When the file's first moment was; one that never began has none.
ALTER TABLE recordings ADD COLUMN zero_at_ms BIGINT;
-- Whether retention leaves it alone.
ALTER TABLE recordings ADD COLUMN kept BOOLEAN NOT NULL DEFAULT FALSE;
