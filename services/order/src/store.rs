//! Orders in the store: they are added and read, never changed.

use kit::{Cents, Database, Moment, OpenError, Page, next_id};
use proto::order::v1::OrderStatus;
use sqlx::Any;

/// The orders.
#[derive(Clone, Debug)]
pub struct Store(kit::Store);

/// An order that has no ID yet: its user and product were found.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Who ordered.
    pub user_id: String,
    /// What was ordered.
    pub product_id: String,
    /// How many.
    pub quantity: u32,
    /// The price of all of them.
    pub total_price: Cents,
    /// Where it stands.
    pub status: OrderStatus,
}

/// An order as it is stored.
#[derive(Clone, Debug)]
pub struct Order {
    /// Counted up from 1.
    pub id: i64,
    /// What was ordered.
    pub order: NewOrder,
    /// When it was placed.
    pub created_at: Moment,
}

/// `id, user_id, product_id, quantity, total_price, status, created_at`.
type Row = (i64, String, String, i64, i64, i64, i64);

impl Store {
    /// Opens the store and brings its tables up to date.
    pub async fn open(database: &Database) -> Result<Self, OpenError> {
        kit::Store::open(database, &sqlx::migrate!()).await.map(Self)
    }

    /// Adds an order.
    pub async fn create(&self, order: NewOrder, now: Moment) -> sqlx::Result<Order> {
        const SQL: &str = "INSERT INTO orders \
             (id, user_id, product_id, quantity, total_price, status, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let mut change = self.0.write().await?;
        let id = next_id(&mut change).await?;
        let insert = sqlx::query(SQL)
            .bind(id)
            .bind(&order.user_id)
            .bind(&order.product_id)
            .bind(i64::from(order.quantity))
            .bind(order.total_price.count())
            .bind(i64::from(i32::from(order.status)))
            .bind(now.micros());
        insert.execute(&mut *change).await?;
        change.commit().await?;
        Ok(Order { id, order, created_at: now })
    }

    /// The order of this ID, where there is one.
    pub async fn find(&self, id: i64) -> sqlx::Result<Option<Order>> {
        const SQL: &str = "SELECT id, user_id, product_id, quantity, total_price, status, \
             created_at FROM orders WHERE id = $1";
        let row = sqlx::query_as::<Any, Row>(SQL).bind(id).fetch_optional(self.0.read()).await?;
        row.map(Order::try_from).transpose()
    }

    /// The rows of a page, in the order of their IDs, and the one after them: of this user, or of
    /// everyone.
    pub async fn list(&self, user_id: Option<&str>, page: &Page) -> sqlx::Result<Vec<Order>> {
        const ALL: &str = "SELECT id, user_id, product_id, quantity, total_price, status, \
             created_at FROM orders WHERE id > $1 ORDER BY id LIMIT $2";
        const OF_USER: &str = "SELECT id, user_id, product_id, quantity, total_price, status, \
             created_at FROM orders WHERE id > $1 AND user_id = $3 ORDER BY id LIMIT $2";
        let sql = if user_id.is_some() { OF_USER } else { ALL };
        let mut rows = sqlx::query_as::<Any, Row>(sql).bind(page.after()).bind(page.rows());
        if let Some(user_id) = user_id {
            rows = rows.bind(user_id.to_owned());
        }
        rows.fetch_all(self.0.read()).await?.into_iter().map(Order::try_from).collect()
    }
}

impl TryFrom<Row> for Order {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let (id, user_id, product_id, quantity, total_price, status, created_at) = row;
        let broken = |what: &str| sqlx::Error::Decode(format!("order {id}: its {what}").into());
        let order = NewOrder {
            user_id,
            product_id,
            quantity: u32::try_from(quantity).map_err(|_| broken("quantity"))?,
            total_price: Cents::new(total_price).ok_or_else(|| broken("total price"))?,
            status: i32::try_from(status)
                .ok()
                .and_then(|status| OrderStatus::try_from(status).ok())
                .ok_or_else(|| broken("status"))?,
        };
        Ok(Self { id, order, created_at: Moment::from_micros(created_at) })
    }
}
