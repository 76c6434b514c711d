-- Workers outside of the binary have a token, and say what they run; of those within both are null.
ALTER TABLE workers ADD COLUMN token UUID;
ALTER TABLE workers ADD COLUMN kinds TEXT; -- as JSON

-- What they have declared.
CREATE TABLE external_kinds (
    name       TEXT COLLATE "C" PRIMARY KEY,
    told       TEXT   NOT NULL, -- as JSON: description, args_schema, policy, checkpoints
    changed_by TEXT   NOT NULL,
    changed_at BIGINT NOT NULL
);

-- Their waiting jobs, lane by lane and owner by owner. The kinds' names, and no others, have a dot: all other jobs cost nothing here.
CREATE INDEX jobs_external ON jobs (kind, front, lane, owner, seq) WHERE status = 'pending' AND strpos(kind, '.') > 0;
