//! Products in the store: they are added and read, never changed.

use kit::{Cents, Database, Moment, OpenError, Page, next_id};
use sqlx::Any;

/// The products.
#[derive(Clone, Debug)]
pub struct Store(kit::Store);

/// A product that has no ID yet: every field has been checked.
#[derive(Clone, Debug)]
pub struct NewProduct {
    /// What to call it.
    pub name: String,
    /// The price of one.
    pub price: Cents,
    /// What it is; may be empty.
    pub description: String,
}

/// A product as it is stored.
#[derive(Clone, Debug)]
pub struct Product {
    /// Counted up from 1.
    pub id: i64,
    /// What was added.
    pub product: NewProduct,
    /// When it was.
    pub created_at: Moment,
}

/// `id, name, price, description, created_at`.
type Row = (i64, String, i64, String, i64);

impl Store {
    /// Opens the store and brings its tables up to date.
    pub async fn open(database: &Database) -> Result<Self, OpenError> {
        kit::Store::open(database, &sqlx::migrate!()).await.map(Self)
    }

    /// Adds a product.
    pub async fn create(&self, product: NewProduct, now: Moment) -> sqlx::Result<Product> {
        const SQL: &str = "INSERT INTO products (id, name, price, description, created_at) \
             VALUES ($1, $2, $3, $4, $5)";
        let mut change = self.0.write().await?;
        let id = next_id(&mut change).await?;
        let insert = sqlx::query(SQL)
            .bind(id)
            .bind(&product.name)
            .bind(product.price.count())
            .bind(&product.description)
            .bind(now.micros());
        insert.execute(&mut *change).await?;
        change.commit().await?;
        Ok(Product { id, product, created_at: now })
    }

    /// The product of this ID, where there is one.
    pub async fn find(&self, id: i64) -> sqlx::Result<Option<Product>> {
        const SQL: &str =
            "SELECT id, name, price, description, created_at FROM products WHERE id = $1";
        let row = sqlx::query_as::<Any, Row>(SQL).bind(id).fetch_optional(self.0.read()).await?;
        row.map(Product::try_from).transpose()
    }

    /// The rows of a page, in the order of their IDs, and the one after them.
    pub async fn list(&self, page: &Page) -> sqlx::Result<Vec<Product>> {
        const SQL: &str = "SELECT id, name, price, description, created_at FROM products \
             WHERE id > $1 ORDER BY id LIMIT $2";
        let rows = sqlx::query_as::<Any, Row>(SQL).bind(page.after()).bind(page.rows());
        rows.fetch_all(self.0.read()).await?.into_iter().map(Product::try_from).collect()
    }
}

impl TryFrom<Row> for Product {
    type Error = sqlx::Error;

    fn try_from((id, name, price, description, created_at): Row) -> sqlx::Result<Self> {
        let price = Cents::new(price)
            .ok_or_else(|| sqlx::Error::Decode(format!("a price of {price} cents").into()))?;
        let product = NewProduct { name, price, description };
        Ok(Self { id, product, created_at: Moment::from_micros(created_at) })
    }
}
