//! The contract of [`Store`], run against every implementation.

use super::{MAX_KEY_BYTES, MAX_VALUE_BYTES, MemoryStore, RedbStore, Store, StoreError, Table, Write};

fn each(check: impl Fn(&dyn Store)) {
    check(&MemoryStore::default());
    let dir = tempfile::tempdir().unwrap();
    check(&RedbStore::open(dir.path()).unwrap());
}

fn put(table: Table, key: &str, value: &str) -> Write {
    Write::Put { table, key: key.to_owned(), value: value.as_bytes().to_vec() }
}

fn insert(table: Table, key: &str, value: &str) -> Write {
    Write::Insert { table, key: key.to_owned(), value: value.as_bytes().to_vec() }
}

fn delete(table: Table, key: &str) -> Write {
    Write::Delete { table, key: key.to_owned() }
}

fn get(store: &dyn Store, table: Table, key: &str) -> Option<String> {
    store.get(table, key).unwrap().map(|value| String::from_utf8(value).unwrap())
}

fn keys(store: &dyn Store, table: Table, prefix: &str) -> Vec<String> {
    store.list(table, prefix).unwrap().into_iter().map(|(key, _)| key).collect()
}

#[test]
fn rows_are_written_read_and_deleted() {
    each(|store| {
        assert_eq!(get(store, Table::Control, "m"), None);
        assert!(keys(store, Table::Control, "").is_empty());
        store.commit(&[put(Table::Control, "m", "1"), put(Table::Control, "m", "2")]).unwrap();
        assert_eq!(get(store, Table::Control, "m").as_deref(), Some("2"), "writes apply in order");
        assert_eq!(get(store, Table::Answers, "m"), None, "tables are apart");
        store.commit(&[delete(Table::Control, "m"), delete(Table::Control, "never there")]).unwrap();
        assert_eq!(get(store, Table::Control, "m"), None);
        store.commit(&[]).unwrap();
    });
}

#[test]
fn lists_are_in_key_order_and_by_prefix() {
    each(|store| {
        let rows = ["b/1", "a/2", "a/1", "a", "a0", "ä/1"];
        store.commit(&rows.map(|key| put(Table::LabelMoves, key, key))).unwrap();
        assert_eq!(keys(store, Table::LabelMoves, ""), ["a", "a/1", "a/2", "a0", "b/1", "ä/1"]);
        assert_eq!(keys(store, Table::LabelMoves, "a/"), ["a/1", "a/2"]);
        assert_eq!(keys(store, Table::LabelMoves, "c"), [""; 0]);
    });
}

#[test]
fn a_commit_is_all_or_nothing() {
    each(|store| {
        store.commit(&[put(Table::Slots, "1", "old"), put(Table::Slots, "2", "gone")]).unwrap();
        let refused = store.commit(&[
            put(Table::Slots, "1", "new"),
            delete(Table::Slots, "2"),
            put(Table::Answers, "m", "1"),
            put(Table::Slots, "1", "newer"),
            insert(Table::Slots, "1", "second"),
        ]);
        assert!(matches!(refused, Err(StoreError::Exists { table: Table::Slots, key }) if key == "1"));
        assert_eq!(get(store, Table::Slots, "1").as_deref(), Some("old"));
        assert_eq!(get(store, Table::Slots, "2").as_deref(), Some("gone"));
        assert_eq!(get(store, Table::Answers, "m"), None);
        // A row that the same commit takes away may be inserted.
        store.commit(&[delete(Table::Slots, "1"), insert(Table::Slots, "1", "again")]).unwrap();
        assert_eq!(get(store, Table::Slots, "1").as_deref(), Some("again"));
    });
}

#[test]
fn every_bound_is_an_error() {
    each(|store| {
        let limit = Table::Gateway.row_limit();
        let rows: Vec<Write> = (0..limit).map(|i| put(Table::Gateway, &i.to_string(), "")).collect();
        store.commit(&rows).unwrap();
        let full = store.commit(&[put(Table::Gateway, "one more", "")]);
        assert!(matches!(full, Err(StoreError::Full { table: Table::Gateway, limit: l }) if l == limit));
        store.commit(&[put(Table::Gateway, "0", "changed"), delete(Table::Gateway, "1")]).unwrap();
        store.commit(&[put(Table::Gateway, "one more", "")]).unwrap();

        let long_key = store.commit(&[put(Table::Answers, &"k".repeat(MAX_KEY_BYTES + 1), "")]);
        assert!(matches!(long_key, Err(StoreError::TooLong { what: "key", .. })));
        let long_value = store.commit(&[put(Table::Answers, "k", &"v".repeat(MAX_VALUE_BYTES + 1))]);
        assert!(matches!(long_value, Err(StoreError::TooLong { what: "value", .. })));
        store.commit(&[put(Table::Answers, &"k".repeat(MAX_KEY_BYTES), &"v".repeat(MAX_VALUE_BYTES))]).unwrap();
    });
}

#[test]
fn threads_take_turns() {
    each(|store| {
        let winners: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| store.commit(&[insert(Table::Slots, "7", "")]).is_ok())).collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
        });
        assert_eq!(winners, 1, "one insert of a row succeeds");
    });
}
