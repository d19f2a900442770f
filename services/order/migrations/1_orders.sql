-- One text for SQLite and PostgreSQL. Times are microseconds since the epoch.
CREATE TABLE orders (
    id BIGINT PRIMARY KEY,
    -- IDs of other services' records, as those spell them.
    user_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    -- The price of all of them, in cents.
    total_price BIGINT NOT NULL,
    -- The number of order.v1.OrderStatus.
    status BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX orders_by_user ON orders (user_id, id);

-- The last ID that was given out: one row.
CREATE TABLE ids (last BIGINT NOT NULL);
INSERT INTO ids (last) VALUES (0);
