-- The rows of these two are written by transactions that write or lock the row of their job, so that looking for it again, once
-- for each row, finds nothing and costs as much as the row itself. What goes with jobs is removed for all jobs of a statement at
-- once.
ALTER TABLE job_data DROP CONSTRAINT job_data_job_seq_fkey;
ALTER TABLE attempts DROP CONSTRAINT attempts_job_seq_fkey;

CREATE FUNCTION jobs_gone() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    -- By their keys, however many the first statement of a session removed: its plan is kept.
    DELETE FROM job_data WHERE job_seq = ANY (ARRAY(SELECT seq FROM gone));
    DELETE FROM attempts WHERE job_seq = ANY (ARRAY(SELECT seq FROM gone));
    RETURN NULL;
END
$$;

CREATE TRIGGER jobs_gone AFTER DELETE ON jobs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION jobs_gone();
