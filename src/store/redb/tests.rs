mod failing;

use std::fs;

use super::*;

fn put(key: &str) -> Write {
    Write::Put { table: Table::Gateway, key: key.to_owned(), value: b"1".to_vec() }
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("a/b");
    RedbStore::open(&data_dir).unwrap().commit(&[put("x")]).unwrap();
    let store = RedbStore::open(&data_dir).unwrap();
    assert_eq!(store.get(Table::Gateway, "x").unwrap().as_deref(), Some(b"1".as_slice()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&data_dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = RedbStore::open(dir.path()).unwrap();
    let fault = RedbStore::open(dir.path()).unwrap_err();
    assert!(matches!(fault, StoreError::InUse { .. }));
    assert!(fault.to_string().contains("in use by another process"), "{fault}");
    drop(first);
    RedbStore::open(dir.path()).unwrap();
}

/// This very test binary, run again as the second process.
#[test]
fn another_process_is_refused() {
    const DIR: &str = "HEADGATE_TEST_STATE_DIR";
    if let Some(dir) = std::env::var_os(DIR) {
        let fault = RedbStore::open(Path::new(&dir)).unwrap_err();
        assert!(matches!(fault, StoreError::InUse { .. }), "{fault}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _first = RedbStore::open(dir.path()).unwrap();
    let name = "store::redb::tests::another_process_is_refused";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = RedbStore::open(dir.path()).unwrap();
        let opened = store.opened.read().unwrap();
        let transaction = opened.database.as_ref().unwrap().begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(SCHEMA_KEY, 7).unwrap();
        transaction.commit().unwrap();
    }
    let text = RedbStore::open(dir.path()).unwrap_err().to_string();
    assert!(text.ends_with("newer version of this program: schema version 7, expected at most 1"), "{text}");
}

#[test]
fn a_damaged_file_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(STATE_FILE);
    fs::write(&file, b"this is not a database").unwrap();
    let fault = RedbStore::open(dir.path()).unwrap_err();
    assert!(matches!(fault, StoreError::Damaged { .. }), "{fault}");
    fs::remove_file(&file).unwrap();

    let keys: Vec<String> = (0..20).map(|i| format!("key {i}")).collect();
    let writes: Vec<Write> = keys.iter().map(|key| put(key)).collect();
    RedbStore::open(dir.path()).unwrap().commit(&writes).unwrap();
    let sound = fs::read(&file).unwrap();
    let mut refused = 0;
    for at in (0..sound.len()).step_by(sound.len() / 200) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x55;
        fs::write(&file, &bytes).unwrap();
        match RedbStore::open(dir.path()) {
            // Bytes that nothing uses.
            Ok(store) => assert_eq!(store.list(Table::Gateway, "").unwrap().len(), keys.len(), "byte {at}"),
            Err(StoreError::Damaged { .. }) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(refused > 0);
    for length in [1, 100, 4096, sound.len() / 2] {
        fs::write(&file, &sound[..length]).unwrap();
        let fault = RedbStore::open(dir.path()).unwrap_err();
        assert!(matches!(fault, StoreError::Damaged { .. }), "{length} bytes: {fault}");
    }
}

#[test]
fn a_data_directory_that_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    assert!(matches!(RedbStore::open(&path), Err(StoreError::Unusable { .. })));
}
