//! Instances that meet on one file.

use tempfile::TempDir;

use super::*;

static MIGRATIONS: Migrator = sqlx::migrate!("../user/migrations");

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_number_of_instances_may_open_a_new_store_together() {
    // Whether two of them meet is chance: several rounds make it near certain.
    for _ in 0..5 {
        let directory = TempDir::new().unwrap();
        let database = Database::Sqlite(directory.path().join("not/there/yet.db"));
        let opened: Vec<_> = (0..12)
            .map(|_| {
                let database = database.clone();
                tokio::spawn(async move { Store::open(&database, &MIGRATIONS).await })
            })
            .collect();
        for store in opened {
            let mut change = store.await.unwrap().unwrap().write().await.unwrap();
            next_id(&mut change).await.unwrap();
            change.commit().await.unwrap();
        }
        let store = Store::open(&database, &MIGRATIONS).await.unwrap();
        let mut change = store.write().await.unwrap();
        assert_eq!(next_id(&mut change).await.unwrap(), 13);
    }
}

#[tokio::test]
async fn an_undone_change_gives_no_id_away() {
    let directory = TempDir::new().unwrap();
    let database = Database::Sqlite(directory.path().join("x.db"));
    let store = Store::open(&database, &MIGRATIONS).await.unwrap();
    for _ in 0..2 {
        let mut change = store.write().await.unwrap();
        assert_eq!(next_id(&mut change).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn the_file_is_in_wal_mode_with_foreign_keys_and_a_busy_timeout() {
    let directory = TempDir::new().unwrap();
    let database = Database::Sqlite(directory.path().join("x.db"));
    let store = Store::open(&database, &MIGRATIONS).await.unwrap();
    let mode: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(store.read()).await.unwrap();
    assert_eq!(mode, "wal");
    for (sql, expected) in [("PRAGMA foreign_keys", 1), ("PRAGMA busy_timeout", 5_000)] {
        let found: i64 = sqlx::query_scalar(sql).fetch_one(store.read()).await.unwrap();
        assert_eq!(found, expected, "{sql}");
    }
}
