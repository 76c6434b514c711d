-- With whose rights the jobs of a bulk action act: who asked for it, as they were then (JSON). Null for all other batches.
ALTER TABLE batches ADD COLUMN started_by TEXT;
