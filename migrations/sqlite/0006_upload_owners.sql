-- Whose uploads they are: each person and token may keep so many bytes of them.
ALTER TABLE uploads ADD COLUMN owner TEXT NOT NULL DEFAULT '';
