-- Adds entries at the end of the audit log. Within the database, so that it takes one message, or none where the statement of
-- what they speak of calls it. From here to the end of the transaction nobody else adds any. The function that checks the log
-- knows the same formula of the hash: SHA-256 over the hash before, the number, the moment and the text. Before the first entry
-- stands genesis. The statements of a volatile function see what was committed before each of them began: the end of the log is
-- the one that whoever had the lock before has left.
CREATE FUNCTION audit_append(moment BIGINT, genesis TEXT, actors TEXT[], actions TEXT[], objects TEXT[], names TEXT[], bodies TEXT[])
RETURNS BIGINT LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    number BIGINT;
    before TEXT;
BEGIN
    PERFORM pg_advisory_xact_lock(22349, hashtext(current_schema()));
    SELECT a.seq, a.hash INTO number, before FROM audit AS a ORDER BY a.seq DESC LIMIT 1;
    number := COALESCE(number, 0);
    before := COALESCE(before, genesis);
    FOR i IN 1 .. cardinality(bodies) LOOP
        number := number + 1;
        before := encode(sha256(convert_to(concat_ws(E'\n', before, number, moment, bodies[i]), 'UTF8')), 'hex');
        INSERT INTO audit (seq, at, actor, action, object, name, body, hash)
        VALUES (number, moment, actors[i], actions[i], objects[i], names[i], bodies[i], before);
    END LOOP;
    RETURN number;
END $$;
