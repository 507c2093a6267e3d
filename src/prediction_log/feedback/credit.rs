//! Who answered a prediction, told by its id.

use std::collections::HashMap;
use std::fmt;

use super::item::Credit;
use crate::inference::PredictionId;
use crate::routing::Arm;

/// Slots whose versions are kept at hand; beyond it all are forgotten and looked up again.
pub const MAX_SLOTS_AT_HAND: usize = 4096;

/// Says which model and version a slot of this gateway stands for; `None` for one that was never given out. May block as
/// the state does.
pub type SlotLookup = Box<dyn Fn(u32) -> Option<(String, u64)> + Send>;

/// Reads credits from ids.
pub struct Credits {
    gateway: u16,
    lookup: SlotLookup,
    at_hand: HashMap<u32, (String, u64)>,
}

impl fmt::Debug for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credits").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Credits {
    /// For ids of this gateway.
    pub fn new(gateway: u16, lookup: SlotLookup) -> Self {
        Self { gateway, lookup, at_hand: HashMap::new() }
    }

    /// Who answered; `None` for an id of another gateway, or one with a slot or arm that does not exist.
    pub fn of(&mut self, id: PredictionId) -> Option<Credit> {
        if id.gateway() != self.gateway {
            return None;
        }
        let arm = Arm::from_number(id.arm())?;
        let (model, version) = self.version(id.slot())?;
        Some(Credit { model, version, arm })
    }

    fn version(&mut self, slot: u32) -> Option<(String, u64)> {
        if let Some(version) = self.at_hand.get(&slot) {
            return Some(version.clone());
        }
        // A slot that doesn't exist may be given out later, so that this is not remembered.
        let version = (self.lookup)(slot)?;
        if self.at_hand.len() >= MAX_SLOTS_AT_HAND {
            self.at_hand.clear();
        }
        self.at_hand.insert(slot, version.clone());
        Some(version)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::registry::digest::Digest;
    use crate::store::MemoryStore;
    use crate::store::records::Records;

    const GATEWAY: u16 = 0xabc;

    fn id(gateway: u16, slot: u32, arm: u8) -> PredictionId {
        PredictionId::new(UNIX_EPOCH, gateway, slot, arm, 7)
    }

    /// Slots 1 to `last` are versions of `m`, and how often one was looked up.
    fn credits(last: u32) -> (Credits, Arc<AtomicUsize>) {
        let looks = Arc::new(AtomicUsize::new(0));
        let counter = looks.clone();
        let lookup = move |slot: u32| {
            counter.fetch_add(1, Ordering::Relaxed);
            (1..=last).contains(&slot).then(|| ("m".to_owned(), u64::from(slot) * 10))
        };
        (Credits::new(GATEWAY, Box::new(lookup)), looks)
    }

    #[test]
    fn an_id_credits_its_own_slot_and_arm_after_any_number_of_versions() {
        let last = MAX_SLOTS_AT_HAND as u32 * 2 + 3;
        let (mut credits, _) = credits(last);
        for slot in (1..=last).chain([1, 2, last]) {
            for arm in [Arm::Stable, Arm::Candidate, Arm::Control, Arm::Shadow] {
                let credit = credits.of(id(GATEWAY, slot, arm.number()).row(5)).unwrap();
                assert_eq!(credit, Credit { model: "m".to_owned(), version: u64::from(slot) * 10, arm });
            }
        }
        assert!(credits.at_hand.len() <= MAX_SLOTS_AT_HAND);
    }

    /// The slots of a data directory, whatever process asks.
    #[test]
    fn slots_of_the_state_credit_the_same_after_a_restart() {
        let store = Arc::new(MemoryStore::default());
        let open = || Arc::new(Records::open(store.clone()).unwrap());
        let records = open();
        let slots: Vec<u32> =
            (1..=300).map(|version| records.slot_for("m", version, Digest::of(b"files")).unwrap()).collect();
        for records in [records, open()] {
            let gateway = records.gateway();
            let lookup = move |slot| records.slot(slot).unwrap().map(|row| (row.model, row.version));
            let mut credits = Credits::new(gateway, Box::new(lookup));
            for (slot, version) in slots.iter().zip(1..) {
                let credit = credits.of(id(gateway, *slot, Arm::Control.number())).unwrap();
                assert_eq!(credit, Credit { model: "m".to_owned(), version, arm: Arm::Control });
            }
        }
    }

    #[test]
    fn a_slot_is_looked_up_once() {
        let (mut credits, looks) = credits(1);
        for _ in 0..10 {
            credits.of(id(GATEWAY, 1, 0)).unwrap();
        }
        assert_eq!(looks.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn nobody_is_credited_for_an_id_that_is_not_ours() {
        let (mut credits, looks) = credits(1);
        assert_eq!(credits.of(id(GATEWAY + 1, 1, 0)), None, "another gateway's");
        assert_eq!(looks.load(Ordering::Relaxed), 0);
        assert_eq!(credits.of(id(GATEWAY, 2, 0)), None, "a slot that was never given out");
        assert_eq!(credits.of(id(GATEWAY, 0, 0)), None, "no slot");
        assert_eq!(credits.of(id(GATEWAY, 1, 9)), None, "no arm");
    }
}
