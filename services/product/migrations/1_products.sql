-- One text for SQLite and PostgreSQL. Times are microseconds since the epoch.
CREATE TABLE products (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    -- The price of one, in cents.
    price BIGINT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- The last ID that was given out: one row.
CREATE TABLE ids (last BIGINT NOT NULL);
INSERT INTO ids (last) VALUES (0);
