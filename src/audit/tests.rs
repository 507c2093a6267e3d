//! The log from opening to verifying, against files that were tampered with.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::line::{MAX_LINE_BYTES, NO_HASH};
use super::*;

fn entry(at_ms: u64, target: &str) -> Entry {
    Entry {
        at_ms,
        actor: "alice".to_owned(),
        action: "label.set".to_owned(),
        target: target.to_owned(),
        reason: "a \"quoted\"\nreason".to_owned(),
        before: json!({"stable": 1}),
        after: json!({"stable": 2}),
        evidence: json!({"e_harm": 0.1}),
    }
}

/// A folder whose log has this many entries, of models m1, m2, …, at 1, 2, … ms.
fn logged(entries: u64) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(Some(dir.path())).unwrap();
    for number in 1..=entries {
        assert_eq!(log.append(entry(number, &format!("m{number}"))).unwrap(), number);
    }
    let path = dir.path().join(AUDIT_FILE);
    (dir, path)
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().split_inclusive('\n').map(str::to_owned).collect()
}

fn fault(path: &Path) -> Option<(u64, String)> {
    verify(path).unwrap().first_fault.map(|fault| (fault.line, fault.what))
}

#[test]
fn the_hash_is_of_the_bytes_that_the_manual_names() {
    let (_dir, path) = logged(3);
    let mut previous = NO_HASH.to_owned();
    for (at, line) in lines(&path).into_iter().enumerate() {
        let line = line.strip_suffix('\n').unwrap();
        let (contents, hash) = line.split_at(line.len() - 75);
        let hash = hash.strip_prefix(",\"hash\":\"").unwrap().strip_suffix("\"}").unwrap();
        let digest = Sha256::digest(format!("{contents}}}"));
        assert_eq!(hash, digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let start = format!("{{\"number\":{},\"previous\":\"{previous}\",\"at_ms\":", at + 1);
        assert!(line.starts_with(&start), "{line}");
        previous = hash.to_owned();
    }
}

#[test]
fn the_chain_goes_on_after_a_restart() {
    let (dir, path) = logged(2);
    let head = AuditLog::open(Some(dir.path())).unwrap().head();
    assert_eq!(head.number, 2);
    let log = AuditLog::open(Some(dir.path())).unwrap();
    assert_eq!(log.append(entry(3, "m3")).unwrap(), 3);
    let report = verify(&path).unwrap();
    assert_eq!(report, Report { entries: 3, head: log.head(), first_fault: None });
    assert_eq!(log.query(&Filter::default(), 9).unwrap()[2].previous, head.hash);
}

#[test]
fn every_changed_byte_is_found() {
    let (_dir, path) = logged(3);
    let sound = fs::read(&path).unwrap();
    for at in 0..sound.len() {
        for flip in [0x01, 0x80] {
            let mut bytes = sound.clone();
            bytes[at] ^= flip;
            fs::write(&path, &bytes).unwrap();
            assert!(fault(&path).is_some(), "byte {at} ^ {flip}");
        }
    }
    fs::write(&path, &sound).unwrap();
    assert_eq!(fault(&path), None);
}

#[test]
fn removed_inserted_and_moved_lines_are_found_where_they_are() {
    let (_dir, path) = logged(5);
    let sound = lines(&path);
    let after = |edit: &dyn Fn(&mut Vec<String>)| {
        let mut lines = sound.clone();
        edit(&mut lines);
        fs::write(&path, lines.concat()).unwrap();
        fault(&path).unwrap()
    };
    let (line, what) = after(&|lines| _ = lines.remove(2));
    assert_eq!((line, what.as_str()), (3, "lines before it are missing: expected entry 3, got entry 4"));
    let (line, what) = after(&|lines| _ = lines.remove(0));
    assert_eq!((line, what.as_str()), (1, "lines before it are missing: expected entry 1, got entry 2"));
    let (line, what) = after(&|lines| lines.insert(2, lines[1].clone()));
    assert_eq!((line, what.as_str()), (3, "it stands in the wrong place: expected entry 3, got entry 2"));
    let (line, _) = after(&|lines| lines.swap(1, 2));
    assert_eq!(line, 2);
    let (line, what) = after(&|lines| lines[1] = lines[1].replace("label.set", "label.get"));
    assert_eq!((line, what.as_str()), (2, "it was changed: its hash is not that of its contents"));
    let (line, _) = after(&|lines| lines.insert(1, "\n".to_owned()));
    assert_eq!(line, 2);
    let (line, what) = after(&|lines| lines[4].truncate(100));
    assert!(line == 5 && what.starts_with("it is cut off before its end"), "{what}");
    let (line, what) = after(&|lines| lines[2] = "x".repeat(MAX_LINE_BYTES + 9));
    assert!(line == 3 && what.starts_with("it is longer than"), "{what}");
}

/// A line that was changed and hashed again no longer fits the one after it.
#[test]
fn a_line_that_was_hashed_again_is_found_at_the_next() {
    let (_dir, path) = logged(3);
    let mut lines = lines(&path);
    let head = Head { number: 1, hash: serde_json::from_str::<Line>(&lines[0]).unwrap().hash };
    lines[1] = String::from_utf8(line::next(&head, entry(2, "forged")).unwrap().1).unwrap() + "\n";
    fs::write(&path, lines.concat()).unwrap();
    let (line, what) = fault(&path).unwrap();
    assert!(line == 3 && what.contains("follows another line's hash"), "{what}");
}

#[test]
fn lines_cut_off_the_end_show_in_the_head_alone() {
    let (_dir, path) = logged(3);
    let noted = verify(&path).unwrap().head;
    fs::write(&path, lines(&path)[..2].concat()).unwrap();
    let report = verify(&path).unwrap();
    assert_eq!(report.first_fault, None);
    assert_ne!(report.head, noted);
}

#[test]
fn a_torn_last_line_is_cut_off_and_that_is_an_entry() {
    for torn in ["{\"number\":3,\"prev", "\0\0\0\0", "{}"] {
        let (dir, path) = logged(2);
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(torn.as_bytes()).unwrap();
        let log = AuditLog::open(Some(dir.path())).unwrap();
        let last = log.query(&Filter::default(), 1).unwrap().remove(0);
        assert_eq!((last.number, last.entry.action.as_str()), (3, "audit.cut"));
        assert_eq!(last.entry.evidence, json!({"cut_bytes": torn.len()}));
        assert_eq!(verify(&path).unwrap(), Report { entries: 3, head: log.head(), first_fault: None });
    }
}

#[test]
fn a_broken_chain_is_still_told_of_and_goes_on_from_its_last_line() {
    let (dir, path) = logged(4);
    let mut lines = lines(&path);
    lines[1] = lines[1].replace("alice", "mallory");
    lines.insert(4, "not an entry\n".to_owned());
    fs::write(&path, lines.concat()).unwrap();
    let log = AuditLog::open(Some(dir.path())).unwrap();
    assert_eq!(log.append(entry(5, "m5")).unwrap(), 5);
    assert_eq!(fault(&path).unwrap().0, 2);
    let numbers: Vec<u64> = log.query(&Filter::default(), 9).unwrap().iter().map(|line| line.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

#[test]
fn queries_give_the_newest_that_fit_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    for log in [AuditLog::open(None).unwrap(), AuditLog::open(Some(dir.path())).unwrap()] {
        for at_ms in 1..=6 {
            log.append(entry(at_ms, if at_ms % 2 == 0 { "even" } else { "odd" })).unwrap();
        }
        let at = |filter: Filter, limit| -> Vec<u64> {
            log.query(&filter, limit).unwrap().iter().map(|line| line.entry.at_ms).collect()
        };
        assert_eq!(at(Filter::default(), 2), [5, 6]);
        assert_eq!(at(Filter::default(), 0), [0; 0]);
        let even = Filter { target: Some("even".to_owned()), ..Filter::default() };
        assert_eq!(at(even, 100), [2, 4, 6]);
        let between = Filter { since_ms: Some(2), until_ms: Some(5), ..Filter::default() };
        assert_eq!(at(between, 100), [2, 3, 4]);
    }
}

#[test]
fn threads_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(Some(dir.path())).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || (0..10).for_each(|i| _ = log.append(entry(i, &format!("thread {thread}"))).unwrap()));
        }
    });
    let report = verify(&dir.path().join(AUDIT_FILE)).unwrap();
    assert_eq!((report.entries, report.first_fault), (40, None));
}

#[test]
fn values_that_are_too_long_are_noted_by_their_size() {
    let log = AuditLog::open(None).unwrap();
    let evidence = json!("x".repeat(MAX_LINE_BYTES));
    log.append(Entry { evidence, ..entry(1, "m") }).unwrap();
    let line = log.query(&Filter::default(), 1).unwrap().remove(0);
    assert_eq!(line.entry.evidence, json!({"omitted_bytes": MAX_LINE_BYTES + 2}));
    assert_eq!(line.entry.after, entry(1, "m").after);
    let refused = log.append(Entry { reason: "x".repeat(MAX_LINE_BYTES), ..entry(2, "m") }).unwrap_err();
    assert!(matches!(refused, AuditError::TooLong { .. }), "{refused}");
    assert_eq!(log.head().number, 1);
}

#[test]
fn memory_keeps_the_last_entries() {
    let log = AuditLog::open(None).unwrap();
    for at_ms in 0..10_010 {
        log.append(entry(at_ms, "m")).unwrap();
    }
    let lines = log.query(&Filter::default(), usize::MAX).unwrap();
    assert_eq!((lines.len(), lines[0].number, log.head().number), (10_000, 11, 10_010));
}
