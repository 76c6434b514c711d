-- Workers outside of the binary have a token, and say what they run; of those within both are null.
ALTER TABLE workers ADD COLUMN token BLOB;
ALTER TABLE workers ADD COLUMN kinds TEXT; -- as JSON

-- What they have declared.
CREATE TABLE external_kinds (
    name       TEXT    PRIMARY KEY,
    told       TEXT    NOT NULL, -- as JSON: description, args_schema, policy, checkpoints
    changed_by TEXT    NOT NULL,
    changed_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Their waiting jobs, lane by lane and owner by owner. The kinds' names, and no others, have a dot: all other jobs cost nothing here.
CREATE INDEX jobs_external ON jobs (kind, front, lane, owner, seq) WHERE status = 'pending' AND instr(kind, '.') > 0;
