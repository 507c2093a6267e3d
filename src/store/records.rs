//! What the gateway remembers, as types over the rows of a [`Store`].
//!
//! Everything here blocks as the store does. Rows are JSON; fields that a later version adds are ignored by this one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::rows::{bad_row, insert, put, read, read_all};
use super::{Store, StoreError, Table, Write};
use crate::registry::digest::Digest;
use crate::registry::labels::LabelMove;

/// Digests remembered as known good; beyond it the oldest are forgotten, and cost one more trial load.
pub const MAX_KNOWN_GOOD: usize = 10_000;

const GATEWAY_ID_KEY: &str = "id";
/// A model's name can't hold it, so that it separates the parts of a key.
const SEPARATOR: char = '/';

/// Why a version is not to be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The files that were rejected. Other files under the same number stay in quarantine too: a version is immutable,
    /// and what is mended gets a new number.
    pub digest: Digest,
    /// What an operator reads.
    pub reason: String,
    /// Unix time.
    pub since_ms: u64,
}

/// What an operator asked of a model through the repository API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    Loaded,
    Unloaded,
}

/// A digest that loaded and ran in a child process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownGood {
    /// The build of the engine that it ran on; another build has to try again.
    engine_build: String,
    since_ms: u64,
}

/// Which version a slot in a prediction id stands for. Never changed, never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotRow {
    pub gateway: u16,
    pub model: String,
    pub version: u64,
    pub digest: Digest,
}

/// The typed rows. Shared by reference; all methods take `&self`.
pub struct Records {
    store: Arc<dyn Store>,
    gateway: u16,
    slots: Mutex<Slots>,
}

/// Every slot of the store by what it stands for.
struct Slots {
    by_row: HashMap<SlotRow, u32>,
    highest: u32,
}

impl Records {
    /// Reads what must be at hand; a gateway that starts for the first time gets its id here.
    ///
    /// # Errors
    /// Those of the store, and `BadRow` for a row that this program can't have written.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let gateway = match read(&*store, Table::Gateway, GATEWAY_ID_KEY)? {
            Some(id) => id,
            None => {
                let id = fastrand::u16(..1 << 12);
                store.commit(&[insert(Table::Gateway, GATEWAY_ID_KEY.to_owned(), &id)])?;
                id
            }
        };
        let mut slots = Slots { by_row: HashMap::new(), highest: 0 };
        for (key, row) in read_all::<SlotRow>(&*store, Table::Slots, "")? {
            let slot = key.parse().map_err(|_| bad_row(Table::Slots, &key, "its key is not a number"))?;
            slots.highest = slots.highest.max(slot);
            slots.by_row.insert(row, slot);
        }
        Ok(Self { store, gateway, slots: Mutex::new(slots) })
    }

    /// This gateway's part of a prediction id: 12 bits, drawn once.
    pub fn gateway(&self) -> u16 {
        self.gateway
    }

    // Labels

    /// Labels of a model that were moved through the API.
    pub fn label_moves(&self, model: &str) -> Result<BTreeMap<String, LabelMove>, StoreError> {
        let prefix = format!("{model}{SEPARATOR}");
        let rows = read_all(&*self.store, Table::LabelMoves, &prefix)?;
        Ok(rows.into_iter().map(|(key, moved)| (key[prefix.len()..].to_owned(), moved)).collect())
    }

    pub fn move_label(&self, model: &str, label: &str, moved: &LabelMove) -> Result<(), StoreError> {
        self.store.commit(&[put(Table::LabelMoves, pair(model, label), moved)])
    }

    /// Forgets moves that the file has overruled.
    pub fn forget_moves(&self, model: &str, labels: &[String]) -> Result<(), StoreError> {
        let delete = |label: &String| Write::Delete { table: Table::LabelMoves, key: pair(model, label) };
        self.store.commit(&labels.iter().map(delete).collect::<Vec<_>>())
    }

    // Which version answers

    /// The version that answered a model's bare name last.
    pub fn answered(&self, model: &str) -> Result<Option<u64>, StoreError> {
        read(&*self.store, Table::Answers, model)
    }

    /// Remembers which versions answer, all at once.
    pub fn set_answered(&self, versions: &BTreeMap<String, u64>) -> Result<(), StoreError> {
        let row = |(model, version): (&String, &u64)| put(Table::Answers, model.clone(), version);
        self.store.commit(&versions.iter().map(row).collect::<Vec<_>>())
    }

    // Quarantine

    /// Every quarantined version, by model and number.
    pub fn quarantined(&self) -> Result<BTreeMap<(String, u64), Quarantine>, StoreError> {
        let parse = |(key, row): (String, Quarantine)| {
            let id =
                key.split_once(SEPARATOR).and_then(|(model, version)| Some((model.to_owned(), version.parse().ok()?)));
            id.map(|id| (id, row)).ok_or_else(|| bad_row(Table::Quarantine, &key, "no model and version number"))
        };
        read_all(&*self.store, Table::Quarantine, "")?.into_iter().map(parse).collect()
    }

    pub fn quarantine(&self, model: &str, version: u64, row: &Quarantine) -> Result<(), StoreError> {
        self.store.commit(&[put(Table::Quarantine, pair(model, version), row)])
    }

    pub fn clear_quarantine(&self, model: &str, version: u64) -> Result<(), StoreError> {
        self.store.commit(&[Write::Delete { table: Table::Quarantine, key: pair(model, version) }])
    }

    // Explicit control

    /// What was asked through the repository API, by model.
    pub fn wanted(&self) -> Result<BTreeMap<String, Wanted>, StoreError> {
        Ok(read_all(&*self.store, Table::Control, "")?.into_iter().collect())
    }

    pub fn set_wanted(&self, model: &str, wanted: Wanted) -> Result<(), StoreError> {
        self.store.commit(&[put(Table::Control, model.to_owned(), &wanted)])
    }

    // Known-good files

    /// Whether these files have loaded on this build of the engine before.
    pub fn known_good(&self, digest: &Digest, engine_build: &str) -> Result<bool, StoreError> {
        let row: Option<KnownGood> = read(&*self.store, Table::KnownGood, &digest.to_string())?;
        Ok(row.is_some_and(|row| row.engine_build == engine_build))
    }

    /// Remembers that these files loaded, and forgets the oldest beyond [`MAX_KNOWN_GOOD`].
    pub fn set_known_good(&self, digest: &Digest, engine_build: &str, now: SystemTime) -> Result<(), StoreError> {
        let row = KnownGood { engine_build: engine_build.to_owned(), since_ms: unix_ms(now) };
        let mut rows: Vec<(String, KnownGood)> = read_all(&*self.store, Table::KnownGood, "")?;
        rows.retain(|(key, _)| *key != digest.to_string());
        rows.sort_by_key(|(_, row)| row.since_ms);
        let surplus = (rows.len() + 1).saturating_sub(MAX_KNOWN_GOOD);
        let mut writes: Vec<Write> =
            rows.into_iter().take(surplus).map(|(key, _)| Write::Delete { table: Table::KnownGood, key }).collect();
        writes.push(put(Table::KnownGood, digest.to_string(), &row));
        self.store.commit(&writes)
    }

    // Slots

    /// The slot of a version in prediction ids: the one it has, or the next free one, which is on the disk when this
    /// returns. Slots count from 1; 0 stands for none.
    ///
    /// # Errors
    /// `Full` once all 24 bits are used, and those of the store.
    pub fn slot_for(&self, model: &str, version: u64, digest: Digest) -> Result<u32, StoreError> {
        let row = SlotRow { gateway: self.gateway, model: model.to_owned(), version, digest };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&slot) = slots.by_row.get(&row) {
            return Ok(slot);
        }
        let slot = slots.highest + 1;
        // No insert: one that failed may be on the disk all the same, and its slot was given to nobody.
        self.store.commit(&[put(Table::Slots, slot_key(slot), &row)])?;
        slots.highest = slot;
        slots.by_row.insert(row, slot);
        Ok(slot)
    }

    /// What a slot stands for.
    pub fn slot(&self, slot: u32) -> Result<Option<SlotRow>, StoreError> {
        read(&*self.store, Table::Slots, &slot_key(slot))
    }
}

/// Ten digits, so that keys sort as numbers do.
fn slot_key(slot: u32) -> String {
    format!("{slot:010}")
}

fn pair(model: &str, part: impl std::fmt::Display) -> String {
    format!("{model}{SEPARATOR}{part}")
}

fn unix_ms(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::registry::labels::labels_digest;
    use crate::store::{MemoryStore, RedbStore};

    fn records() -> Records {
        Records::open(Arc::new(MemoryStore::default())).unwrap()
    }

    #[test]
    fn everything_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Records::open(Arc::new(RedbStore::open(dir.path()).unwrap())).unwrap();
        let moved = LabelMove { version: Some(2), file: labels_digest(&BTreeMap::new()) };
        let rejected = Quarantine { digest: Digest::of(b"3"), reason: "error rate".into(), since_ms: 5 };
        let (gateway, slot) = {
            let records = open();
            records.move_label("m", "stable", &moved).unwrap();
            records.set_answered(&[("m".to_owned(), 2)].into()).unwrap();
            records.quarantine("m", 3, &rejected).unwrap();
            records.set_wanted("m", Wanted::Unloaded).unwrap();
            records.set_known_good(&Digest::of(b"2"), "build", UNIX_EPOCH).unwrap();
            (records.gateway(), records.slot_for("m", 2, Digest::of(b"2")).unwrap())
        };
        let records = open();
        assert_eq!(records.gateway(), gateway);
        assert_eq!(records.label_moves("m").unwrap(), [("stable".to_owned(), moved)].into());
        assert_eq!(records.answered("m").unwrap(), Some(2));
        assert_eq!(records.quarantined().unwrap(), [(("m".to_owned(), 3), rejected)].into());
        assert_eq!(records.wanted().unwrap(), [("m".to_owned(), Wanted::Unloaded)].into());
        assert!(records.known_good(&Digest::of(b"2"), "build").unwrap());
        assert_eq!(records.slot_for("m", 2, Digest::of(b"2")).unwrap(), slot);
    }

    #[test]
    fn models_whose_names_begin_alike_are_apart() {
        let records = records();
        let moved = LabelMove { version: Some(1), file: labels_digest(&BTreeMap::new()) };
        records.move_label("m", "a", &moved).unwrap();
        records.move_label("m2", "b", &moved).unwrap();
        assert_eq!(records.label_moves("m").unwrap().keys().collect::<Vec<_>>(), ["a"]);
        records.forget_moves("m", &["a".to_owned(), "b".to_owned()]).unwrap();
        assert!(records.label_moves("m").unwrap().is_empty());
        assert_eq!(records.label_moves("m2").unwrap().len(), 1);

        let row = Quarantine { digest: Digest::of(b""), reason: String::new(), since_ms: 0 };
        records.quarantine("m", 1, &row).unwrap();
        records.quarantine("m", 10, &row).unwrap();
        records.quarantine("m2", 1, &row).unwrap();
        records.clear_quarantine("m", 1).unwrap();
        let left: Vec<_> = records.quarantined().unwrap().into_keys().collect();
        assert_eq!(left, [("m".to_owned(), 10), ("m2".to_owned(), 1)]);
    }

    #[test]
    fn a_slot_stands_for_one_version_for_ever() {
        let records = records();
        let slot = |model, version, contents: &[u8]| records.slot_for(model, version, Digest::of(contents)).unwrap();
        assert_eq!(slot("m", 1, b"x"), 1);
        assert_eq!(slot("m", 2, b"x"), 2);
        assert_eq!(slot("m", 1, b"y"), 3, "other files under the same number");
        assert_eq!(slot("n", 1, b"x"), 4);
        assert_eq!(slot("m", 1, b"x"), 1);
        let row = records.slot(3).unwrap().unwrap();
        assert_eq!((row.model.as_str(), row.version, row.digest), ("m", 1, Digest::of(b"y")));
        assert_eq!(row.gateway, records.gateway());
        assert_eq!((records.slot(0).unwrap(), records.slot(5).unwrap()), (None, None));
    }

    #[test]
    fn known_good_holds_for_one_build_of_the_engine() {
        let records = records();
        let digest = Digest::of(b"model");
        assert!(!records.known_good(&digest, "1").unwrap());
        records.set_known_good(&digest, "1", UNIX_EPOCH).unwrap();
        assert!(records.known_good(&digest, "1").unwrap());
        assert!(!records.known_good(&digest, "2").unwrap());
        records.set_known_good(&digest, "2", UNIX_EPOCH).unwrap();
        assert!(records.known_good(&digest, "2").unwrap());
    }

    #[test]
    fn the_oldest_known_good_is_forgotten() {
        let store = Arc::new(MemoryStore::default());
        let records = Records::open(store.clone()).unwrap();
        let digest = |i: usize| Digest::of(&i.to_le_bytes());
        let rows: Vec<Write> = (0..MAX_KNOWN_GOOD)
            .map(|i| {
                put(
                    Table::KnownGood,
                    digest(i).to_string(),
                    &KnownGood { engine_build: "1".into(), since_ms: i as u64 },
                )
            })
            .collect();
        store.commit(&rows).unwrap();
        let now = UNIX_EPOCH + Duration::from_millis(MAX_KNOWN_GOOD as u64);
        records.set_known_good(&digest(MAX_KNOWN_GOOD), "1", now).unwrap();
        assert_eq!(store.list(Table::KnownGood, "").unwrap().len(), MAX_KNOWN_GOOD);
        assert!(!records.known_good(&digest(0), "1").unwrap());
        assert!(records.known_good(&digest(1), "1").unwrap());
    }

    #[test]
    fn a_row_that_is_not_ours_is_named() {
        let store = Arc::new(MemoryStore::default());
        store.commit(&[Write::Put { table: Table::Answers, key: "m".into(), value: b"{".to_vec() }]).unwrap();
        let text = Records::open(store).unwrap().answered("m").unwrap_err().to_string();
        assert!(text.starts_with("row 'm' in table answers of the state can't be understood: "), "{text}");
    }
}
