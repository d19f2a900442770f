-- One text for SQLite and PostgreSQL. Times are microseconds since the epoch.
CREATE TABLE users (
    id BIGINT PRIMARY KEY,
    email TEXT NOT NULL,
    -- The email in lower case: two users may not differ by case alone.
    email_key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- The number of user.v1.UserRole.
    role BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- The last ID that was given out: one row.
CREATE TABLE ids (last BIGINT NOT NULL);
INSERT INTO ids (last) VALUES (0);
