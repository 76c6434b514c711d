-- An owner's jobs that did not just wait, run and complete: the few among many that people look for. Those on the usual way are left
-- out, so that it costs them nothing.
CREATE INDEX jobs_owner_apart ON jobs (owner, seq, status)
    WHERE status IN ('scheduled', 'blocked', 'retrying', 'paused', 'failed', 'dead', 'cancelled');
