-- The room that a destination was made in and belongs to; one of the whole account has none.
ALTER TABLE destinations ADD COLUMN room TEXT;

-- The last numbers of a stream and of its destinations, JSON, once it is over.
ALTER TABLE streams ADD COLUMN outcome TEXT;
