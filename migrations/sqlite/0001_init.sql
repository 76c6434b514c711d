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
    concurrency_key    TEXT,
    batch              BLOB,
    fingerprint        TEXT,                       -- what its error has in common with others like it
    member             INTEGER NOT NULL DEFAULT 0, -- whether the limit of running jobs per member holds for its owner
    holds              TEXT,                       -- while it runs: the limits that it counts against, as JSON
    dependents         INTEGER NOT NULL DEFAULT 0, -- whether any job ever waited for this one
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
    front              INTEGER NOT NULL DEFAULT 0, -- whether it goes before all that waits, until it has begun
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
-- order of enqueueing: whatever asks for statuses or kinds reads some cells and merges them. Numbers follow the moments
-- of enqueueing, so there is no index of those.
CREATE INDEX jobs_cell ON jobs (status, kind, seq);
CREATE INDEX jobs_owner ON jobs (owner, seq);
CREATE INDEX jobs_started ON jobs (started_at, seq) WHERE started_at IS NOT NULL;
CREATE INDEX jobs_completed ON jobs (completed_at, seq) WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_progress ON jobs (progress, seq) WHERE status = 'running' AND progress IS NOT NULL;
-- Most jobs are in the default queue, and cost nothing here: a walk through all jobs soon finds them.
CREATE INDEX jobs_queue ON jobs (queue, seq) WHERE queue <> 'default';
CREATE INDEX jobs_batch ON jobs (batch, seq) WHERE batch IS NOT NULL;
CREATE INDEX jobs_fingerprint ON jobs (fingerprint, seq) WHERE fingerprint IS NOT NULL;
CREATE INDEX jobs_parent ON jobs (parent) WHERE parent IS NOT NULL;
CREATE INDEX jobs_due ON jobs (run_at) WHERE status IN ('scheduled', 'retrying');
-- By status: what is kept for long is not walked past on the way to what is not.
CREATE INDEX jobs_ended ON jobs (status, completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_key ON jobs (unique_key, seq) WHERE unique_key IS NOT NULL;
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key)
    WHERE unique_key IS NOT NULL AND status NOT IN ('completed', 'failed', 'dead', 'cancelled');

CREATE TABLE job_data (
    job_seq   INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    args      TEXT    NOT NULL,
    result    TEXT,
    error     TEXT,
    timeout_s INTEGER NOT NULL,
    log_lines INTEGER NOT NULL DEFAULT 0,
    run_anyway INTEGER NOT NULL DEFAULT 0, -- whether it runs even when a job that it depends on did not complete
    checkpoint TEXT                        -- where its next attempt goes on
);

-- Which jobs wait, or waited, for which others.
CREATE TABLE job_deps (
    job_seq   INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    needs_seq INTEGER NOT NULL, -- may be removed before the other
    needs_id  BLOB    NOT NULL,
    met       INTEGER NOT NULL DEFAULT 0, -- whether the other completed, and has been removed since
    PRIMARY KEY (job_seq, needs_seq)
) WITHOUT ROWID;

CREATE INDEX job_deps_needs ON job_deps (needs_seq, job_seq);

-- Jobs that have ended, and for which others waited that have not been looked at since: those whose number is above after_seq.
CREATE TABLE deps_due (
    needs_seq INTEGER NOT NULL,
    after_seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (needs_seq, after_seq)
) WITHOUT ROWID;

-- How many running jobs count against each limit (queue::Hold as text).
CREATE TABLE running_holds (
    hold TEXT     PRIMARY KEY,
    n    INTEGER NOT NULL
) WITHOUT ROWID;

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
    cpu_ms     INTEGER,
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
    shard  INTEGER NOT NULL, -- whoever writes side by side with others changes rows of its own; a count is their sum
    n      INTEGER NOT NULL,
    PRIMARY KEY (status, kind, queue, shard)
) WITHOUT ROWID;

-- What happened in each minute (since 1970), added up in the transaction that did it (store/rollups.rs): metric is enqueued,
-- completed, failed, dead, cancelled, retried, or wait and run, whose bucket says how long: 0 is under a millisecond, b is
-- 2^(b-1) up to 2^b milliseconds.
CREATE TABLE rollups (
    minute INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    shard  INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    queue  TEXT NOT NULL,
    metric TEXT NOT NULL,
    PRIMARY KEY (minute, kind, queue, metric, bucket, shard)
) WITHOUT ROWID;

-- What a search looks through: domain::filter::search_text of each job. Renewed a moment after a job changed, since it
-- costs more than all else; search_stale names the jobs that it does not know as they are, and those are looked at one
-- by one.
CREATE VIRTUAL TABLE job_search USING fts5 (text, tokenize = 'trigram', content = '', contentless_delete = 1);
CREATE TABLE search_stale (job_seq INTEGER PRIMARY KEY);

-- How many jobs of a kind that has a rate were begun in which window of time.
CREATE TABLE kind_rates (
    kind      TEXT    PRIMARY KEY,
    starts_at INTEGER NOT NULL,
    n         INTEGER NOT NULL
);

-- Jobs that were started together and are followed as one.
CREATE TABLE batches (
    id         BLOB PRIMARY KEY,
    name       TEXT NOT NULL,
    owner      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX batches_time ON batches (created_at, id);
CREATE INDEX batches_owner ON batches (owner, created_at, id);

-- How many jobs of a batch there are in each status, kept as those of job_counts are.
CREATE TABLE batch_counts (
    batch  BLOB NOT NULL,
    status TEXT NOT NULL,
    shard  INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (batch, status, shard)
) WITHOUT ROWID;

-- Errors by what they have in common with others that count as the same problem: how many attempts of a kind ended so.
CREATE TABLE errors (
    fingerprint TEXT NOT NULL,
    kind        TEXT NOT NULL,
    code        TEXT NOT NULL,
    message     TEXT NOT NULL, -- of the last one
    first_at    INTEGER NOT NULL,
    last_at     INTEGER NOT NULL,
    n           INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, kind)
) WITHOUT ROWID;

CREATE INDEX errors_last ON errors (last_at);

-- Queues that a person has paused: nothing is taken from them.
CREATE TABLE paused_queues (
    name      TEXT PRIMARY KEY,
    paused_by TEXT NOT NULL,
    paused_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Cron rules. next_at is when one falls due; a run is claimed by its row in schedule_runs, which nobody can write twice.
CREATE TABLE schedules (
    id         BLOB    PRIMARY KEY,
    name       TEXT     NOT NULL UNIQUE,
    cron       TEXT NOT NULL,
    time_zone  TEXT NOT NULL,
    kind       TEXT NOT NULL,
    args       TEXT NOT NULL,
    queue      TEXT NOT NULL,
    lane       INTEGER NOT NULL,
    misfire    TEXT NOT NULL CHECK (misfire IN ('once', 'skip')),
    owner      TEXT NOT NULL,
    paused     INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    next_at    INTEGER,
    last_at    INTEGER,
    last_job   BLOB
);

CREATE INDEX schedules_next ON schedules (next_at) WHERE paused = 0;

CREATE TABLE schedule_runs (
    schedule BLOB    NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    due_at   INTEGER NOT NULL,
    job      BLOB    NOT NULL,
    PRIMARY KEY (schedule, due_at)
) WITHOUT ROWID;

-- When chores such as the sweep of old jobs last ran, and what they did, as JSON.
CREATE TABLE chores (
    name   TEXT PRIMARY KEY,
    ran_at INTEGER NOT NULL,
    told   TEXT NOT NULL
);

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
