-- Times are milliseconds since 1970 by the database's clock. Names of statuses are those of src/domain/status.rs.

-- The row that is claimed and listed: narrow. What is read one job at a time lives in job_data.
CREATE TABLE jobs (
    seq                INTEGER PRIMARY KEY AUTOINCREMENT,
    id                 BLOB    NOT NULL UNIQUE,
    kind               TEXT    NOT NULL,
    queue              TEXT    NOT NULL,
    lane               INTEGER NOT NULL CHECK (lane BETWEEN 0 AND 3),
    status             TEXT    NOT NULL CHECK (status IN ('scheduled', 'blocked', 'pending', 'running', 'retrying',
                                                          'paused', 'completed', 'failed', 'dead', 'cancelled')),
    owner              TEXT    NOT NULL,
    parent             BLOB,
    unique_key         TEXT,
    created_at         INTEGER NOT NULL,
    run_at             INTEGER NOT NULL,
    started_at         INTEGER,
    completed_at       INTEGER,
    attempt            INTEGER NOT NULL DEFAULT 0,
    max_attempts       INTEGER NOT NULL,
    attempts_per_round INTEGER NOT NULL,
    crashes            INTEGER NOT NULL DEFAULT 0,
    epoch              INTEGER NOT NULL DEFAULT 0,
    worker             TEXT,
    lease_until        INTEGER,
    cancel_requested   INTEGER NOT NULL DEFAULT 0,
    pause_requested    INTEGER NOT NULL DEFAULT 0,
    progress           REAL,
    done               INTEGER,
    total              INTEGER,
    message            TEXT    NOT NULL DEFAULT '',
    error_code         TEXT,
    error              TEXT,
    rev                INTEGER NOT NULL DEFAULT 1,
    CHECK ((status = 'running') = (lease_until IS NOT NULL))
);

-- Every index costs each job's life several writes, so there are few. A cell is the jobs of one status and kind in the
-- order of enqueueing: whatever asks for statuses or kinds reads some cells and merges them.
CREATE INDEX jobs_cell ON jobs (status, kind, seq);
CREATE INDEX jobs_created ON jobs (created_at, seq);
CREATE INDEX jobs_owner ON jobs (owner, created_at, seq);
CREATE INDEX jobs_started ON jobs (started_at, seq) WHERE started_at IS NOT NULL;
CREATE INDEX jobs_completed ON jobs (completed_at, seq) WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_progress ON jobs (progress, seq) WHERE progress IS NOT NULL;
CREATE INDEX jobs_parent ON jobs (parent) WHERE parent IS NOT NULL;
CREATE INDEX jobs_due ON jobs (run_at) WHERE status IN ('scheduled', 'retrying');
CREATE INDEX jobs_failed ON jobs (completed_at) WHERE status IN ('failed', 'dead');
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key)
    WHERE unique_key IS NOT NULL AND status NOT IN ('completed', 'failed', 'dead', 'cancelled');

CREATE TABLE job_data (
    job_seq   INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    args      TEXT    NOT NULL,
    result    TEXT,
    error     TEXT,
    timeout_s INTEGER NOT NULL,
    log_lines INTEGER NOT NULL DEFAULT 0
);

-- Attempts that have ended; the running one is in the job's row.
CREATE TABLE attempts (
    job_seq    INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    worker     TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL,
    outcome    TEXT    NOT NULL,
    error      TEXT,
    PRIMARY KEY (job_seq, number)
) WITHOUT ROWID;

-- Changes of status that neither the job's row nor its attempts tell: an attempt's row says when, by whom and from which
-- status it began, and that of a completed one also how it ended.
CREATE TABLE transitions (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    job_seq     INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    attempt     INTEGER NOT NULL, -- the running or last one at that moment
    at          INTEGER NOT NULL,
    from_status TEXT,
    to_status   TEXT    NOT NULL,
    by          TEXT    NOT NULL,
    reason      TEXT    NOT NULL DEFAULT ''
);

CREATE INDEX transitions_job ON transitions (job_seq, seq);

CREATE TABLE job_logs (
    job_seq INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    n       INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    level   INTEGER NOT NULL,
    message TEXT    NOT NULL,
    PRIMARY KEY (job_seq, n)
) WITHOUT ROWID;

CREATE TABLE artifacts (
    job_seq      INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    path         TEXT    NOT NULL,
    size         INTEGER NOT NULL,
    content_type TEXT    NOT NULL,
    sha256       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    PRIMARY KEY (job_seq, name)
) WITHOUT ROWID;

-- uses: jobs whose args name the upload; it goes with the last of them.
CREATE TABLE uploads (
    id         TEXT    PRIMARY KEY,
    file_name  TEXT    NOT NULL,
    size       INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    uses       INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- How many jobs there are of each status, kind and queue. Whoever changes jobs adds up what changed, in the same
-- transaction (store/counts.rs).
CREATE TABLE job_counts (
    status TEXT    NOT NULL,
    kind   TEXT    NOT NULL,
    queue  TEXT    NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (status, kind, queue)
) WITHOUT ROWID;

-- What a search looks through: domain::filter::search_text of each job. Renewed a moment after a job changed, since it
-- costs more than all else; search_stale names the jobs that it does not know as they are, and those are looked at one
-- by one.
CREATE VIRTUAL TABLE job_search USING fts5 (text, tokenize = 'trigram', content = '', contentless_delete = 1);
CREATE TABLE search_stale (job_seq INTEGER PRIMARY KEY);

CREATE TABLE workers (
    id           TEXT    PRIMARY KEY,
    host         TEXT    NOT NULL,
    pid          INTEGER NOT NULL,
    version      TEXT    NOT NULL,
    slots        INTEGER NOT NULL,
    in_use       INTEGER NOT NULL,
    started_at   INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL
) WITHOUT ROWID;

-- The sample domain.
CREATE TABLE events (
    id          TEXT    PRIMARY KEY,
    camera_id   TEXT    NOT NULL,
    occurred_at INTEGER NOT NULL,
    risk_level  TEXT    NOT NULL CHECK (risk_level IN ('low', 'medium', 'high', 'critical')),
    label       TEXT    NOT NULL,
    summary     TEXT    NOT NULL,
    reviewed    INTEGER NOT NULL CHECK (reviewed IN (0, 1)),
    metadata    TEXT    NOT NULL
) WITHOUT ROWID;

CREATE INDEX events_time ON events (occurred_at, id);
CREATE INDEX events_camera ON events (camera_id, occurred_at, id);
