-- Times are milliseconds since 1970 by the database's clock. Names of statuses are those of src/domain/status.rs. The tables
-- are those of SQLite's migrations; here rows of jobs change often and in place, which the storage settings provide for.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE SEQUENCE jobs_seq CACHE 1;

-- The row that is claimed and listed: narrow. What is read one job at a time lives in job_data.
CREATE TABLE jobs (
    seq                BIGINT  PRIMARY KEY DEFAULT nextval('jobs_seq'),
    id                 UUID    NOT NULL UNIQUE,
    parent             UUID,
    batch              UUID,
    created_at         BIGINT  NOT NULL,
    run_at             BIGINT  NOT NULL,
    started_at         BIGINT,
    completed_at       BIGINT,
    lease_until        BIGINT,
    epoch              BIGINT  NOT NULL DEFAULT 0,
    rev                BIGINT  NOT NULL DEFAULT 1,
    done               BIGINT,
    total              BIGINT,
    progress           DOUBLE PRECISION,
    lane               INTEGER NOT NULL CHECK (lane BETWEEN 0 AND 3),
    attempt            INTEGER NOT NULL DEFAULT 0,
    max_attempts       INTEGER NOT NULL,
    attempts_per_round INTEGER NOT NULL,
    crashes            INTEGER NOT NULL DEFAULT 0,
    cancel_requested   INTEGER NOT NULL DEFAULT 0,
    pause_requested    INTEGER NOT NULL DEFAULT 0,
    front              INTEGER NOT NULL DEFAULT 0, -- whether it goes before all that waits, until it has begun
    kind               TEXT COLLATE "C" NOT NULL,
    queue              TEXT COLLATE "C" NOT NULL,
    status             TEXT COLLATE "C" NOT NULL CHECK (status IN ('scheduled', 'blocked', 'pending', 'running', 'retrying',
                                                                   'paused', 'completed', 'failed', 'dead', 'cancelled')),
    owner              TEXT COLLATE "C" NOT NULL,
    unique_key         TEXT COLLATE "C",
    concurrency_key    TEXT COLLATE "C",
    fingerprint        TEXT COLLATE "C",            -- what its error has in common with others like it
    member             INTEGER NOT NULL DEFAULT 0, -- whether the limit of running jobs per member holds for its owner
    dependents         INTEGER NOT NULL DEFAULT 0, -- whether any job ever waited for this one
    holds              TEXT,                       -- while it runs: the limits that it counts against, as JSON
    worker             TEXT,
    message            TEXT    NOT NULL DEFAULT '',
    error_code         TEXT,
    error              TEXT,
    CHECK ((status = 'running') = (lease_until IS NOT NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05,
        autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);

-- Each change of a status writes to every index, so there are few: see SQLite's migrations for what they are for.
CREATE INDEX jobs_cell ON jobs (status, kind, seq);
CREATE INDEX jobs_owner ON jobs (owner, seq);
CREATE INDEX jobs_started ON jobs (started_at, seq) WHERE started_at IS NOT NULL;
CREATE INDEX jobs_completed ON jobs (completed_at, seq) WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_progress ON jobs (progress, seq) WHERE status = 'running' AND progress IS NOT NULL;
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
    job_seq   BIGINT  PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    timeout_s BIGINT  NOT NULL,
    log_lines BIGINT  NOT NULL DEFAULT 0,
    run_anyway BIGINT NOT NULL DEFAULT 0, -- whether it runs even when a job that it depends on did not complete
    args      TEXT    NOT NULL,
    result    TEXT,
    error     TEXT,
    checkpoint TEXT                       -- where its next attempt goes on
) WITH (fillfactor = 90);

-- Which jobs wait, or waited, for which others.
CREATE TABLE job_deps (
    job_seq   BIGINT  NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    needs_seq BIGINT  NOT NULL, -- may be removed before the other
    needs_id  UUID    NOT NULL,
    met       INTEGER NOT NULL DEFAULT 0, -- whether the other completed, and has been removed since
    PRIMARY KEY (job_seq, needs_seq)
);

CREATE INDEX job_deps_needs ON job_deps (needs_seq, job_seq);

-- Jobs that have ended, and for which others waited that have not been looked at since: those whose number is above after_seq.
CREATE TABLE deps_due (
    needs_seq BIGINT  NOT NULL,
    after_seq BIGINT  NOT NULL DEFAULT 0,
    PRIMARY KEY (needs_seq, after_seq)
);

-- How many running jobs count against each limit (queue::Hold as text).
CREATE TABLE running_holds (
    hold TEXT COLLATE "C" PRIMARY KEY,
    n    BIGINT  NOT NULL
);

-- Attempts that have ended; the running one is in the job's row.
CREATE TABLE attempts (
    job_seq    BIGINT  NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    epoch      BIGINT  NOT NULL,
    started_at BIGINT  NOT NULL,
    ended_at   BIGINT  NOT NULL,
    cpu_ms     BIGINT,
    number     INTEGER NOT NULL,
    worker     TEXT    NOT NULL,
    outcome    TEXT    NOT NULL,
    error      TEXT,
    PRIMARY KEY (job_seq, number)
);

-- Changes of status that neither the job's row nor its attempts tell.
CREATE TABLE transitions (
    seq         BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_seq     BIGINT  NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    at          BIGINT  NOT NULL,
    attempt     INTEGER NOT NULL, -- the running or last one at that moment
    from_status TEXT,
    to_status   TEXT    NOT NULL,
    by          TEXT    NOT NULL,
    reason      TEXT    NOT NULL DEFAULT ''
);

CREATE INDEX transitions_job ON transitions (job_seq, seq);

CREATE TABLE job_logs (
    job_seq BIGINT  NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    n       BIGINT  NOT NULL,
    at      BIGINT  NOT NULL,
    attempt INTEGER NOT NULL,
    level   INTEGER NOT NULL,
    message TEXT    NOT NULL,
    PRIMARY KEY (job_seq, n)
);

CREATE TABLE artifacts (
    job_seq      BIGINT NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    name         TEXT   NOT NULL,
    path         TEXT   NOT NULL,
    size         BIGINT NOT NULL,
    content_type TEXT   NOT NULL,
    sha256       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    PRIMARY KEY (job_seq, name)
);

-- uses: jobs whose args name the upload; it goes with the last of them.
CREATE TABLE uploads (
    id         TEXT   PRIMARY KEY,
    file_name  TEXT   NOT NULL,
    size       BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    uses       BIGINT NOT NULL DEFAULT 0
);

-- How many jobs there are of each status, kind and queue, as the sum of the shards: each writer adds to one of its own, so
-- that none waits for another's commit.
CREATE TABLE job_counts (
    shard  BIGINT NOT NULL,
    n      BIGINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    kind   TEXT COLLATE "C" NOT NULL,
    queue  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (status, kind, queue, shard)
) WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

-- What happened in each minute (since 1970), added up in the transaction that did it (store/rollups.rs): metric is enqueued,
-- completed, failed, dead, cancelled, retried, or wait and run, whose bucket says how long: 0 is under a millisecond, b is
-- 2^(b-1) up to 2^b milliseconds.
CREATE TABLE rollups (
    minute BIGINT NOT NULL,
    bucket BIGINT NOT NULL,
    shard  BIGINT NOT NULL,
    n      BIGINT NOT NULL,
    kind   TEXT COLLATE "C" NOT NULL,
    queue  TEXT COLLATE "C" NOT NULL,
    metric TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (minute, kind, queue, metric, bucket, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

-- What a search looks through: domain::filter::search_text of each job, renewed a moment after a job changed; search_stale
-- names the jobs that it does not know as they are.
CREATE TABLE job_search (
    job_seq BIGINT PRIMARY KEY,
    text    TEXT   NOT NULL
);

CREATE INDEX job_search_text ON job_search USING gin (text gin_trgm_ops);

CREATE TABLE search_stale (job_seq BIGINT PRIMARY KEY)
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- How many jobs of a kind that has a rate were begun in which window of time.
CREATE TABLE kind_rates (
    kind      TEXT COLLATE "C" PRIMARY KEY,
    starts_at BIGINT  NOT NULL,
    n         BIGINT  NOT NULL
);

-- Jobs that were started together and are followed as one.
CREATE TABLE batches (
    id         UUID PRIMARY KEY,
    name       TEXT NOT NULL,
    owner      TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX batches_time ON batches (created_at, id);
CREATE INDEX batches_owner ON batches (owner, created_at, id);

-- How many jobs of a batch there are in each status, kept as those of job_counts are.
CREATE TABLE batch_counts (
    batch  UUID NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    shard  BIGINT NOT NULL,
    n      BIGINT NOT NULL,
    PRIMARY KEY (batch, status, shard)
);

-- Errors by what they have in common with others that count as the same problem: how many attempts of a kind ended so.
CREATE TABLE errors (
    fingerprint TEXT COLLATE "C" NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL,
    code        TEXT NOT NULL,
    message     TEXT NOT NULL, -- of the last one
    first_at    BIGINT NOT NULL,
    last_at     BIGINT NOT NULL,
    n           BIGINT NOT NULL,
    PRIMARY KEY (fingerprint, kind)
);

CREATE INDEX errors_last ON errors (last_at);

-- Queues that a person has paused: nothing is taken from them.
CREATE TABLE paused_queues (
    name      TEXT COLLATE "C" PRIMARY KEY,
    paused_by TEXT NOT NULL,
    paused_at BIGINT NOT NULL
);

-- Cron rules. next_at is when one falls due; a run is claimed by its row in schedule_runs, which nobody can write twice.
CREATE TABLE schedules (
    id         UUID    PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    cron       TEXT NOT NULL,
    time_zone  TEXT NOT NULL,
    kind       TEXT NOT NULL,
    args       TEXT NOT NULL,
    queue      TEXT NOT NULL,
    lane       BIGINT  NOT NULL,
    misfire    TEXT NOT NULL CHECK (misfire IN ('once', 'skip')),
    owner      TEXT NOT NULL,
    paused     BIGINT  NOT NULL DEFAULT 0,
    created_at BIGINT  NOT NULL,
    next_at    BIGINT ,
    last_at    BIGINT ,
    last_job   UUID
);

CREATE INDEX schedules_next ON schedules (next_at) WHERE paused = 0;

CREATE TABLE schedule_runs (
    schedule UUID    NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    due_at   BIGINT  NOT NULL,
    job      UUID    NOT NULL,
    PRIMARY KEY (schedule, due_at)
);

-- When chores such as the sweep of old jobs last ran, and what they did, as JSON.
CREATE TABLE chores (
    name   TEXT PRIMARY KEY,
    ran_at BIGINT  NOT NULL,
    told   TEXT NOT NULL
);

CREATE TABLE workers (
    id           TEXT    PRIMARY KEY,
    started_at   BIGINT  NOT NULL,
    heartbeat_at BIGINT  NOT NULL,
    pid          BIGINT  NOT NULL,
    slots        INTEGER NOT NULL,
    in_use       INTEGER NOT NULL,
    host         TEXT    NOT NULL,
    version      TEXT    NOT NULL
);

-- The sample domain.
CREATE TABLE events (
    id          TEXT COLLATE "C" PRIMARY KEY,
    camera_id   TEXT COLLATE "C" NOT NULL,
    occurred_at BIGINT  NOT NULL,
    reviewed    INTEGER NOT NULL CHECK (reviewed IN (0, 1)),
    risk_level  TEXT    NOT NULL CHECK (risk_level IN ('low', 'medium', 'high', 'critical')),
    label       TEXT    NOT NULL,
    summary     TEXT    NOT NULL,
    metadata    TEXT    NOT NULL
);

CREATE INDEX events_time ON events (occurred_at, id);
CREATE INDEX events_camera ON events (camera_id, occurred_at, id);
