//! Users in the store. An email belongs to one user at most, whatever its case.

use kit::{Database, Moment, OpenError, Page, next_id};
use proto::user::v1::SyncStatus;
use sqlx::{Any, AnyConnection};

use crate::model::{Change, NewUser, User};

/// The users.
#[derive(Clone, Debug)]
pub struct Store(kit::Store);

/// Why a user was not stored.
#[derive(Debug)]
pub enum Refusal {
    /// Another user has this email.
    EmailTaken(String),
    /// No user has this ID.
    NoSuchUser(i64),
    /// The store itself failed.
    Failed(sqlx::Error),
}

/// `id, email, name, role, created_at, updated_at`, as every query here returns them.
type Row = (i64, String, String, i64, i64, i64);

impl Store {
    /// Opens the store and brings its tables up to date.
    pub async fn open(database: &Database) -> Result<Self, OpenError> {
        kit::Store::open(database, &sqlx::migrate!()).await.map(Self)
    }

    /// The user of this ID.
    pub async fn find(&self, id: i64) -> Result<User, Refusal> {
        let mut reader = self.0.read().acquire().await?;
        by_id(&mut reader, id).await?.ok_or(Refusal::NoSuchUser(id))
    }

    /// Creates all of them or none; a refusal goes with the index of the one that is to blame.
    pub async fn create(
        &self,
        users: &[NewUser],
        now: Moment,
    ) -> Result<Vec<User>, (usize, Refusal)> {
        let unblamed = |error| (0, Refusal::Failed(error));
        let mut change = self.0.write().await.map_err(unblamed)?;
        let mut created = Vec::with_capacity(users.len());
        for (index, user) in users.iter().enumerate() {
            let user = insert(&mut change, user, now).await.map_err(|refusal| (index, refusal))?;
            created.push(user);
        }
        change.commit().await.map_err(unblamed)?;
        Ok(created)
    }

    /// Changes a user. `updated_at` follows only where something differs.
    pub async fn update(&self, id: i64, to: &Change, now: Moment) -> Result<User, Refusal> {
        let mut change = self.0.write().await?;
        let user = update(&mut change, id, to, now).await?.ok_or(Refusal::NoSuchUser(id))?;
        change.commit().await?;
        Ok(user)
    }

    /// Deletes a user.
    pub async fn delete(&self, id: i64) -> Result<(), Refusal> {
        let mut change = self.0.write().await?;
        let deleted = sqlx::query("DELETE FROM users WHERE id = $1").bind(id);
        let deleted = deleted.execute(&mut *change).await?.rows_affected();
        change.commit().await?;
        if deleted == 0 { Err(Refusal::NoSuchUser(id)) } else { Ok(()) }
    }

    /// The rows of a page, in the order of their IDs, and the one after them.
    pub async fn list(&self, page: &Page) -> Result<Vec<User>, Refusal> {
        const SQL: &str = "SELECT id, email, name, role, created_at, updated_at FROM users \
             WHERE id > $1 ORDER BY id LIMIT $2";
        let rows = sqlx::query_as::<Any, Row>(SQL).bind(page.after()).bind(page.rows());
        Ok(rows.fetch_all(self.0.read()).await?.into_iter().map(User::from).collect())
    }

    /// Makes the user of this ID be `to`, and creates nobody.
    pub async fn sync(&self, id: i64, to: &Change, now: Moment) -> Result<Synced, Refusal> {
        let mut change = self.0.write().await?;
        let known = by_id(&mut change, id).await?.ok_or(Refusal::NoSuchUser(id))?;
        let synced = bring(&mut change, known, to, now).await?;
        change.commit().await?;
        Ok(synced)
    }

    /// Makes the user of this email be `user`, or creates it. A known one keeps its role where
    /// `to` has none.
    pub async fn sync_by_email(
        &self,
        user: &NewUser,
        to: &Change,
        now: Moment,
    ) -> Result<Synced, Refusal> {
        let mut change = self.0.write().await?;
        let synced = match by_email(&mut change, &user.email.key()).await? {
            Some(known) => bring(&mut change, known, to, now).await?,
            None => (insert(&mut change, user, now).await?, SyncStatus::Created),
        };
        change.commit().await?;
        Ok(synced)
    }
}

/// A user, and what was done to it.
pub type Synced = (User, SyncStatus);

async fn by_id(on: &mut AnyConnection, id: i64) -> sqlx::Result<Option<User>> {
    const SQL: &str = "SELECT id, email, name, role, created_at, updated_at FROM users \
         WHERE id = $1";
    let row = sqlx::query_as::<Any, Row>(SQL).bind(id).fetch_optional(on).await?;
    Ok(row.map(User::from))
}

async fn by_email(on: &mut AnyConnection, key: &str) -> sqlx::Result<Option<User>> {
    const SQL: &str = "SELECT id, email, name, role, created_at, updated_at FROM users \
         WHERE email_key = $1";
    let row = sqlx::query_as::<Any, Row>(SQL).bind(key).fetch_optional(on).await?;
    Ok(row.map(User::from))
}

async fn insert(on: &mut AnyConnection, user: &NewUser, now: Moment) -> Result<User, Refusal> {
    const SQL: &str = "INSERT INTO users (id, email, email_key, name, role, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $6) \
         RETURNING id, email, name, role, created_at, updated_at";
    let id = next_id(on).await?;
    let row = sqlx::query_as::<Any, Row>(SQL)
        .bind(id)
        .bind(user.email.as_str())
        .bind(user.email.key())
        .bind(user.name.as_str())
        .bind(i64::from(user.role.number()))
        .bind(now.micros());
    let row = row.fetch_one(on).await;
    Ok(row.map_err(|error| taken(error, user.email.as_str()))?.into())
}

async fn update(
    on: &mut AnyConnection,
    id: i64,
    to: &Change,
    now: Moment,
) -> Result<Option<User>, Refusal> {
    const SQL: &str = "UPDATE users SET \
         updated_at = CASE WHEN COALESCE($2, email) = email AND COALESCE($4, name) = name \
             AND COALESCE($5, role) = role THEN updated_at ELSE $6 END, \
         email = COALESCE($2, email), email_key = COALESCE($3, email_key), \
         name = COALESCE($4, name), role = COALESCE($5, role) \
         WHERE id = $1 RETURNING id, email, name, role, created_at, updated_at";
    let email = to.email.as_ref();
    let row = sqlx::query_as::<Any, Row>(SQL)
        .bind(id)
        .bind(email.map(|email| email.as_str().to_owned()))
        .bind(email.map(|email| email.key()))
        .bind(to.name.as_ref().map(|name| name.as_str().to_owned()))
        .bind(to.role.map(|role| i64::from(role.number())))
        .bind(now.micros());
    let row = row.fetch_optional(on).await;
    let row = row.map_err(|error| taken(error, email.map_or("", |email| email.as_str())))?;
    Ok(row.map(User::from))
}

/// Brings a known user to what it should be.
async fn bring(
    on: &mut AnyConnection,
    known: User,
    to: &Change,
    now: Moment,
) -> Result<Synced, Refusal> {
    let same = to.email.as_ref().is_none_or(|email| email.as_str() == known.email)
        && to.name.as_ref().is_none_or(|name| name.as_str() == known.name)
        && to.role.is_none_or(|role| role.number() == known.role);
    if same {
        return Ok((known, SyncStatus::Unchanged));
    }
    let user = update(on, known.id, to, now).await?.ok_or(Refusal::NoSuchUser(known.id))?;
    Ok((user, SyncStatus::Updated))
}

/// The email's index is the only one that a change can violate.
fn taken(error: sqlx::Error, email: &str) -> Refusal {
    let unique = error.as_database_error().is_some_and(|error| error.is_unique_violation());
    if unique { Refusal::EmailTaken(email.to_owned()) } else { Refusal::Failed(error) }
}

impl From<Row> for User {
    fn from((id, email, name, role, created_at, updated_at): Row) -> Self {
        Self {
            id,
            email,
            name,
            role: i32::try_from(role).unwrap_or_default(),
            created_at: Moment::from_micros(created_at),
            updated_at: Moment::from_micros(updated_at),
        }
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}
