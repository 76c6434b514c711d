-- Who may come in, and what they did.

-- A person's e-mail is their name in jobs and in the audit log, so it never changes, and nobody is ever removed: a name
-- can't come to mean somebody else.
CREATE TABLE users (
    id         BLOB    PRIMARY KEY,
    email      TEXT    NOT NULL UNIQUE, -- in lower case
    name       TEXT    NOT NULL,
    role       TEXT    NOT NULL CHECK (role IN ('admin', 'manager', 'member', 'viewer')),
    kinds      TEXT    NOT NULL DEFAULT '[]', -- which kinds they may start, as JSON; empty: all
    password   TEXT,                    -- argon2id as a PHC string; none: cannot sign in by one
    subject    TEXT    UNIQUE,          -- who they are to the OpenID provider: issuer and subject
    disabled   INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER                  -- when they last signed in
) WITHOUT ROWID;

-- Open sessions by the SHA-256 of what their cookie holds.
CREATE TABLE sessions (
    hash       TEXT    PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE, -- its name to people
    user_id    BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    address    TEXT    NOT NULL,
    agent      TEXT    NOT NULL,
    how        TEXT    NOT NULL          -- password, link, openid
) WITHOUT ROWID;

CREATE INDEX sessions_user ON sessions (user_id);

-- Links that work once: for the first admin, an invitation, a new password. By the SHA-256 of their key.
CREATE TABLE links (
    hash       TEXT    PRIMARY KEY,
    purpose    TEXT    NOT NULL CHECK (purpose IN ('first', 'invite', 'reset')),
    email      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    kinds      TEXT    NOT NULL,
    made_by    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Sign-ins that have begun at the OpenID provider: each comes back once, within minutes. By the SHA-256 of their state.
CREATE TABLE openid_sign_ins (
    hash       TEXT    PRIMARY KEY,
    browser    TEXT    NOT NULL,        -- SHA-256 of what its cookie holds
    address    TEXT    NOT NULL,
    nonce      TEXT    NOT NULL,        -- the ID token has to have it
    verifier   TEXT    NOT NULL,        -- goes with the code
    next       TEXT    NOT NULL,        -- the page to lead on to
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX openid_sign_ins_address ON openid_sign_ins (address);

CREATE TABLE tokens (
    id         BLOB    PRIMARY KEY,
    hash       TEXT    NOT NULL UNIQUE, -- SHA-256
    hint       TEXT    NOT NULL,        -- its first characters, by which people tell it
    name       TEXT    NOT NULL,
    user_id    BLOB    REFERENCES users (id) ON DELETE CASCADE, -- whom it acts for; none: for itself
    scopes     TEXT    NOT NULL,        -- as JSON
    kinds      TEXT    NOT NULL,        -- as JSON; empty: all
    made_by    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    used_at    INTEGER,
    used_from  TEXT,
    revoked_at INTEGER
) WITHOUT ROWID;

CREATE INDEX tokens_user ON tokens (user_id);

-- Failed sign-ins in a row by what they have in common: an account, an address, both.
CREATE TABLE sign_in_failures (
    name    TEXT    PRIMARY KEY,
    n       INTEGER NOT NULL,
    last_at INTEGER NOT NULL
) WITHOUT ROWID;

-- What people and tokens did. A row's hash covers the row and the hash before it; the text is what is hashed, the other columns
-- repeat parts of it to be searched by. Nothing changes a row or takes one away.
CREATE TABLE audit (
    seq    INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    actor  TEXT    NOT NULL,
    action TEXT    NOT NULL,
    object TEXT    NOT NULL, -- what it was done to: job, user, token, …
    name   TEXT    NOT NULL, -- which one
    body   TEXT    NOT NULL,
    hash   TEXT    NOT NULL
);

CREATE INDEX audit_actor ON audit (actor, seq);
CREATE INDEX audit_action ON audit (action, seq);
CREATE INDEX audit_name ON audit (name, seq);

CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is only added to');
END;
CREATE TRIGGER audit_keeps_texts BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is only added to');
END;
-- Without this, INSERT OR REPLACE would take a row away past the first one.
CREATE TRIGGER audit_keeps_places BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq) BEGIN
    SELECT RAISE(ABORT, 'the audit log is only added to');
END;
