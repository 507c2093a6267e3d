//! Which versions of a model are loaded, which are let go, and which one answers the bare name.
//!
//! One pure function over a snapshot of the model, called again whenever something about it changes. It is written so
//! that calling it too often does no harm, and availability comes first: a version that serves is let go only once
//! everything wanted in its place serves or has failed, and never if it is the last one.

use std::collections::{BTreeMap, BTreeSet};

/// The highest version number; TensorFlow Serving and Triton read versions as signed 64-bit integers.
pub const MAX_VERSION: u64 = i64::MAX as u64;

/// The label that, where a model has it, answers the bare name.
pub const STABLE: &str = "stable";

/// Which versions in the repository are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The newest so many of those that have not failed.
    Latest(u32),
    All,
    Specific(BTreeSet<u64>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest(1)
    }
}

/// What a new version does to the bare name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnNewVersion {
    /// It answers as soon as it is ready.
    Serve,
    /// The version that answers stays until a label or an operator moves it.
    Hold,
    /// A rollout decides; until one has, as `Hold`.
    Rollout,
}

/// Where a version is in its life, as far as this decision goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Not loaded, and nothing against loading it.
    New,
    Loading,
    /// Answers requests, be it after a load.
    Ready,
    /// Could not be loaded. Stays so until its files or its settings change, which makes it `New`.
    Failed,
}

/// What is known of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionFacts {
    pub life: Life,
    /// In the repository at the last look, and whole unless it is loaded already. False for one whose folder is gone while
    /// it still serves.
    pub present: bool,
    /// Rejected or rolled back: not to be loaded until an operator clears it.
    pub quarantined: bool,
}

impl VersionFacts {
    fn eligible(self) -> bool {
        self.present && !self.quarantined && self.life != Life::Failed
    }

    fn pending(self) -> bool {
        self.eligible() && self.life != Life::Ready
    }

    fn serves(self) -> bool {
        self.life == Life::Ready
    }
}

/// Everything the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct ModelFacts<'a> {
    pub policy: &'a VersionPolicy,
    pub on_new_version: Option<OnNewVersion>,
    /// Versions in the repository that are whole, and versions that are loaded.
    pub versions: &'a BTreeMap<u64, VersionFacts>,
    pub labels: &'a BTreeMap<String, u64>,
    /// Versions that something else names, such as the arms of a rollout.
    pub pinned: &'a BTreeSet<u64>,
    /// The stable version of a rollout under way: answers whatever else is said.
    pub held: Option<u64>,
    /// The version that answered the bare name last, before a restart included.
    pub answered: Option<u64>,
}

/// What follows from the facts. Version numbers ascend, but for `load`: newest first, so that the version most wanted
/// is there first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    pub load: Vec<u64>,
    pub unload: Vec<u64>,
    /// Who answers the bare name; `None` while nobody can.
    pub answers: Option<u64>,
}

/// Decides for one model.
pub fn decide(facts: &ModelFacts<'_>) -> Decision {
    let selected = select(facts.policy, facts.versions);
    let answers = answers(facts, &selected);
    // After a restart nobody answers until the version that is held is loaded again.
    let held = facts.answered.filter(|_| answers.is_none() && holds(facts) && !facts.labels.contains_key(STABLE));
    let named: BTreeSet<u64> =
        facts.labels.values().chain(facts.pinned).chain(&answers).chain(&held).copied().collect();

    let is_new = |version: &u64| facts.versions.get(version).is_some_and(|v| v.eligible() && v.life == Life::New);
    let load: BTreeSet<u64> = selected.union(&named).copied().filter(is_new).collect();

    let settled = selected.iter().all(|version| !facts.versions[version].pending());
    let replaced = selected.union(&named).any(|version| facts.versions.get(version).is_some_and(|v| v.serves()));
    let unload = facts.versions.iter().filter(|(version, v)| {
        v.serves() && settled && replaced && !selected.contains(version) && !named.contains(version)
    });
    Decision { load: load.into_iter().rev().collect(), unload: unload.map(|(&version, _)| version).collect(), answers }
}

/// The versions that the policy wants, of those that can be had.
fn select(policy: &VersionPolicy, versions: &BTreeMap<u64, VersionFacts>) -> BTreeSet<u64> {
    let eligible = versions.iter().filter(|(_, v)| v.eligible()).map(|(&version, _)| version);
    match policy {
        VersionPolicy::Latest(count) => eligible.rev().take(*count as usize).collect(),
        VersionPolicy::All => eligible.collect(),
        VersionPolicy::Specific(listed) => eligible.filter(|version| listed.contains(version)).collect(),
    }
}

fn holds(facts: &ModelFacts<'_>) -> bool {
    match facts.on_new_version {
        Some(OnNewVersion::Hold | OnNewVersion::Rollout) => true,
        Some(OnNewVersion::Serve) => false,
        None => facts.labels.contains_key(STABLE),
    }
}

fn answers(facts: &ModelFacts<'_>, selected: &BTreeSet<u64>) -> Option<u64> {
    let serves = |version: u64| facts.versions.get(&version).is_some_and(|v| v.serves());
    let answered_serves = facts.answered.filter(|&version| serves(version));
    match facts.held.and_then(|held| Some((held, facts.versions.get(&held)?))) {
        Some((held, v)) if v.serves() => return Some(held),
        // After a restart: the candidate must not answer everybody in its place.
        Some((_, v)) if v.pending() => return None,
        _ => {}
    }
    if let Some(&stable) = facts.labels.get(STABLE) {
        // A label moved to a version that is still loading takes effect once it serves. One that points nowhere never
        // falls back to a version that nobody approved.
        return if serves(stable) { Some(stable) } else { answered_serves };
    }
    let sound = |version: u64| facts.versions.get(&version).is_some_and(|v| v.serves() && !v.quarantined);
    let highest_of = |wanted: &dyn Fn(u64) -> bool| {
        facts.versions.keys().rev().copied().find(|&version| sound(version) && wanted(version))
    };
    let highest = highest_of(&|version| selected.contains(&version)).or_else(|| highest_of(&|_| true));
    if !holds(facts) {
        return highest;
    }
    match facts.answered.and_then(|version| Some((version, facts.versions.get(&version)?))) {
        Some((version, _)) if sound(version) => Some(version),
        // Held across a restart: it will be ready, and nobody answers in its place until then.
        Some((_, v)) if v.pending() => None,
        // Nothing is held yet: the choice is made once, when all that could be chosen is there.
        _ if selected.iter().any(|version| facts.versions[version].pending()) => None,
        _ => highest,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A scenario: versions such as "1+ 2~ 3x" (`+` ready, `~` loading, `.` new, `x` failed, `q` quarantined and
    /// ready, `Q` quarantined and not loaded, `-` ready with its folder gone).
    struct Scenario {
        policy: VersionPolicy,
        on_new_version: Option<OnNewVersion>,
        labels: Vec<(&'static str, u64)>,
        pinned: Vec<u64>,
        held: Option<u64>,
        answered: Option<u64>,
    }

    fn latest(count: u32) -> Scenario {
        let policy = VersionPolicy::Latest(count);
        Scenario { policy, on_new_version: None, labels: vec![], pinned: vec![], held: None, answered: None }
    }

    fn hold(answered: Option<u64>) -> Scenario {
        Scenario { on_new_version: Some(OnNewVersion::Hold), answered, ..latest(1) }
    }

    fn stable(version: u64, answered: Option<u64>) -> Scenario {
        Scenario { labels: vec![("stable", version)], answered, ..latest(1) }
    }

    fn run(scenario: &Scenario, versions: &str) -> (Vec<u64>, Vec<u64>, Option<u64>) {
        let facts = versions.split_whitespace().map(|token| {
            let (number, state) = token.split_at(token.len() - 1);
            let life = match state {
                "+" | "q" | "-" => Life::Ready,
                "~" => Life::Loading,
                "x" => Life::Failed,
                _ => Life::New,
            };
            let quarantined = state.eq_ignore_ascii_case("q");
            (number.parse().unwrap(), VersionFacts { life, present: state != "-", quarantined })
        });
        let decision = decide(&ModelFacts {
            policy: &scenario.policy,
            on_new_version: scenario.on_new_version,
            versions: &facts.collect(),
            labels: &scenario.labels.iter().map(|(label, version)| ((*label).to_owned(), *version)).collect(),
            pinned: &scenario.pinned.iter().copied().collect(),
            held: scenario.held,
            answered: scenario.answered,
        });
        (decision.load, decision.unload, decision.answers)
    }

    #[test]
    fn latest_replaces_without_a_gap() {
        for (versions, expected) in [
            ("", (vec![], vec![], None)),
            ("1.", (vec![1], vec![], None)),
            ("1. 2. 3.", (vec![3], vec![], None)),
            ("1+ 2.", (vec![2], vec![], Some(1))),
            ("1+ 2~", (vec![], vec![], Some(1))),
            ("1+ 2+", (vec![], vec![1], Some(2))),
            // The newest fails: the old one stays, or is loaded again.
            ("1+ 2x", (vec![], vec![], Some(1))),
            ("1. 2x", (vec![1], vec![], None)),
            ("1. 2x 3x", (vec![1], vec![], None)),
            // Rolled back while it serves: the one before is loaded, then it goes.
            ("1. 2q", (vec![1], vec![], None)),
            ("1+ 2q", (vec![], vec![2], Some(1))),
            ("1+ 2Q", (vec![], vec![], Some(1))),
            // Its folder is gone: it serves until another does, and for ever if there is none.
            ("1-", (vec![], vec![], Some(1))),
            ("1- 2~", (vec![], vec![], Some(1))),
            ("1- 2+", (vec![], vec![1], Some(2))),
            ("1+ 2-", (vec![], vec![2], Some(1))),
        ] {
            assert_eq!(run(&latest(1), versions), expected, "latest 1: {versions}");
        }
        assert_eq!(run(&latest(2), "1. 2x 3. 4."), (vec![4, 3], vec![], None));
        assert_eq!(run(&latest(2), "1+ 2x 3+ 4+"), (vec![], vec![1], Some(4)));
        assert_eq!(run(&latest(2), "1+ 3+ 4~"), (vec![], vec![], Some(3)));
    }

    #[test]
    fn all_and_specific() {
        let all = Scenario { policy: VersionPolicy::All, ..latest(1) };
        assert_eq!(run(&all, "1. 2x 3+"), (vec![1], vec![], Some(3)));
        let specific = Scenario { policy: VersionPolicy::Specific([2, 9].into()), ..latest(1) };
        assert_eq!(run(&specific, "1. 2. 3."), (vec![2], vec![], None));
        assert_eq!(run(&specific, "2+ 3+"), (vec![], vec![3], Some(2)));
        // None of the listed versions can be had: what serves goes on serving.
        assert_eq!(run(&specific, "2x 3+"), (vec![], vec![], Some(3)));
        assert_eq!(run(&specific, "3+"), (vec![], vec![], Some(3)));
    }

    #[test]
    fn named_versions_are_loaded_and_never_let_go() {
        let canary = Scenario { labels: vec![("canary", 1)], ..latest(1) };
        assert_eq!(run(&canary, "1. 2. 3."), (vec![3, 1], vec![], None));
        assert_eq!(run(&canary, "1+ 2+ 3+"), (vec![], vec![2], Some(3)));
        assert_eq!(run(&canary, "1- 3+"), (vec![], vec![], Some(3)));
        let arms = Scenario { pinned: vec![2], ..latest(1) };
        assert_eq!(run(&arms, "2+ 3+"), (vec![], vec![], Some(3)));
        // While a rollout is under way its stable version answers.
        let rollout = Scenario { pinned: vec![2, 3], held: Some(2), ..latest(1) };
        assert_eq!(run(&rollout, "1+ 2+ 3+"), (vec![], vec![1], Some(2)));
        assert_eq!(run(&rollout, "1+ 2~ 3+"), (vec![], vec![1], None), "and nobody in its place until it is there");
        assert_eq!(run(&rollout, "1+ 2x 3+").2, Some(3), "unless it can't");
        // A label that points at nothing harms nobody.
        assert_eq!(run(&Scenario { labels: vec![("old", 7)], ..latest(1) }, "3+"), (vec![], vec![], Some(3)));
        // A quarantined version is not loaded for a label's sake, but one that serves is not taken away either.
        assert_eq!(run(&canary, "1Q 3+"), (vec![], vec![], Some(3)));
        assert_eq!(run(&canary, "1q 3+"), (vec![], vec![], Some(3)));
    }

    #[test]
    fn stable_answers() {
        assert_eq!(run(&stable(2, Some(2)), "1. 2+ 3+"), (vec![], vec![], Some(2)));
        assert_eq!(run(&stable(2, None), "1. 2. 3."), (vec![3, 2], vec![], None));
        assert_eq!(run(&stable(2, None), "2. 3+"), (vec![2], vec![], None), "nobody answers for it");
        // Moved to one that is not ready: the version that answered goes on until it is, and stays loaded.
        assert_eq!(run(&stable(1, Some(2)), "1. 2+ 3+"), (vec![1], vec![], Some(2)));
        assert_eq!(run(&stable(1, Some(2)), "1+ 2+ 3+"), (vec![], vec![2], Some(1)));
        assert_eq!(run(&stable(1, None), "1x 3+"), (vec![], vec![], None));
    }

    #[test]
    fn hold_keeps_the_version_that_answered() {
        assert_eq!(run(&hold(Some(1)), "1+ 2+"), (vec![], vec![], Some(1)));
        assert_eq!(run(&hold(Some(1)), "1. 2."), (vec![2, 1], vec![], None), "after a restart both are loaded");
        assert_eq!(run(&hold(Some(1)), "1~ 2+"), (vec![], vec![], None), "and nobody answers in its place");
        assert_eq!(run(&hold(Some(1)), "1x 2+"), (vec![], vec![], Some(2)), "unless it can't come back");
        assert_eq!(run(&hold(Some(1)), "2+"), (vec![], vec![], Some(2)));
        assert_eq!(run(&hold(Some(3)), "2+ 3q"), (vec![], vec![3], Some(2)), "a version rolled back answers no more");
        assert_eq!(run(&hold(Some(1)), "1- 2+"), (vec![], vec![], Some(1)));
        // The first choice waits for all candidates.
        let all = Scenario { policy: VersionPolicy::All, ..hold(None) };
        assert_eq!(run(&all, "1+ 2~"), (vec![], vec![], None));
        assert_eq!(run(&all, "1+ 2x"), (vec![], vec![], Some(1)));
        // Serve, said outright, moves on whatever answered before.
        let serve = Scenario { on_new_version: Some(OnNewVersion::Serve), ..hold(Some(1)) };
        assert_eq!(run(&serve, "1+ 2+"), (vec![], vec![1], Some(2)));
    }

    fn facts() -> impl Strategy<Value = VersionFacts> {
        let life = prop_oneof![Just(Life::New), Just(Life::Loading), Just(Life::Ready), Just(Life::Failed)];
        (life, any::<bool>(), any::<bool>()).prop_map(|(life, present, quarantined)| VersionFacts {
            life,
            present,
            quarantined,
        })
    }

    fn policy() -> impl Strategy<Value = VersionPolicy> {
        prop_oneof![
            (1..4u32).prop_map(VersionPolicy::Latest),
            Just(VersionPolicy::All),
            prop::collection::btree_set(1..6u64, 1..3).prop_map(VersionPolicy::Specific),
        ]
    }

    proptest! {
        /// Whatever the facts: what is named stays, what can't be had is not loaded, and whatever served goes on
        /// serving in at least one version.
        #[test]
        fn availability_comes_first(
            policy in policy(),
            on_new_version in prop::option::of(prop_oneof![Just(OnNewVersion::Serve), Just(OnNewVersion::Hold)]),
            versions in prop::collection::btree_map(1..6u64, facts(), 0..5),
            stable in prop::option::of(1..6u64),
            pinned in prop::collection::btree_set(1..6u64, 0..2),
            answered in prop::option::of(1..6u64),
        ) {
            let labels = stable.into_iter().map(|version| (STABLE.to_owned(), version)).collect();
            let facts = ModelFacts {
                policy: &policy, on_new_version, versions: &versions, labels: &labels, pinned: &pinned, held: None, answered,
            };
            let decision = decide(&facts);
            for version in &decision.unload {
                prop_assert!(versions[version].serves());
                prop_assert!(Some(*version) != stable && !pinned.contains(version));
                prop_assert!(Some(*version) != decision.answers);
            }
            for version in &decision.load {
                prop_assert!(versions[version].eligible() && versions[version].life == Life::New);
            }
            prop_assert!(decision.answers.is_none_or(|version| versions[&version].serves()));
            let serving = versions.values().filter(|v| v.serves()).count();
            prop_assert!(serving == 0 || decision.unload.len() < serving);
        }
    }
}
