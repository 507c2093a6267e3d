//! When a version is whole, and when a loaded one was touched.
//!
//! A version that carries a manifest is whole once everything in it matches. Any other is whole once its files have
//! been quiet: the same names, lengths and times over two looks, and for a while. Half a copy must never be loaded, and
//! a copy that pauses for less than that while looks like one that goes on. A folder that is made before its files are
//! written is one whose copy goes on, too: that there is no model in it counts only after that while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use crate::registry::listing::{Fault, FileStamp, ListedModel, Listing, MODEL_FILE, VersionFiles};
use crate::registry::manifest::{MANIFEST_FILE, ManifestError};

/// How long files must be quiet unless the configuration says otherwise.
pub const DEFAULT_QUIET: Duration = Duration::from_secs(1);

/// Checks a version against its manifest: [`crate::registry::manifest::verify`], but for tests.
pub type Verify<'a> = &'a mut dyn FnMut(&VersionFiles) -> Result<(), ManifestError>;

/// What is known of a version's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wholeness {
    /// Not yet to be loaded; why.
    Changing(Waiting),
    Whole,
    /// Quiet, and not fit to be loaded.
    Broken(Broken),
}

/// What a version is waiting for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Waiting {
    #[error("waiting until its files stop changing")]
    Quiet,
    #[error("waiting until its files match: {0}")]
    Manifest(ManifestError),
}

/// Why a version that is not being copied any more can't be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("there is no model.onnx in it")]
    NoModel,
    #[error(transparent)]
    Manifest(ManifestError),
    #[error(transparent)]
    Fault(Fault),
}

/// One model after a look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettledModel {
    /// Whether model.yaml and config.pbtxt are quiet; half a file may well be valid and mean something else.
    pub config_whole: bool,
    pub versions: BTreeMap<u64, Wholeness>,
}

/// The memory between looks. Holds one entry a version and a model of the last look, no more.
#[derive(Debug)]
pub struct Settling {
    quiet: Duration,
    configs: BTreeMap<String, Seen>,
    versions: BTreeMap<(String, u64), Seen>,
}

impl Settling {
    pub fn new(quiet: Duration) -> Self {
        Self { quiet, configs: BTreeMap::new(), versions: BTreeMap::new() }
    }

    /// Takes one more look into account.
    ///
    /// `verify` is called for a version with a manifest, once for each state of its files, and is the only thing here
    /// that may block.
    pub fn observe(&mut self, look: &Listing, verify: Verify<'_>) -> BTreeMap<String, SettledModel> {
        self.configs.retain(|name, _| look.models.contains_key(name));
        self.versions.retain(|(name, version), _| {
            look.models.get(name).is_some_and(|model| !model.certain || model.versions.contains_key(version))
        });
        look.models.iter().map(|(name, model)| (name.clone(), self.observe_model(model, look, verify))).collect()
    }

    fn observe_model(&mut self, model: &ListedModel, look: &Listing, verify: Verify<'_>) -> SettledModel {
        let config = self.configs.entry(model.name.clone()).or_insert_with(|| Seen::first(look.taken));
        config.look(&model.config_files, look.taken);
        let config_whole = config.is_quiet(look, self.quiet);
        let versions = model.versions.iter().map(|(&number, files)| {
            let seen = self.versions.entry((model.name.clone(), number)).or_insert_with(|| Seen::first(look.taken));
            seen.look(&files.files, look.taken);
            (number, seen.wholeness(files, look, self.quiet, verify))
        });
        SettledModel { config_whole, versions: versions.collect() }
    }
}

/// The files of one folder, and for how long they have been as they are.
#[derive(Debug)]
struct Seen {
    files: Vec<FileStamp>,
    since: Instant,
    looks: u32,
    /// What the manifest said of these very files.
    verified: Option<Result<(), ManifestError>>,
}

impl Seen {
    fn first(now: Instant) -> Self {
        Self { files: Vec::new(), since: now, looks: 0, verified: None }
    }

    fn look(&mut self, files: &[FileStamp], now: Instant) {
        if self.looks > 0 && self.files == files {
            self.looks = self.looks.saturating_add(1);
        } else {
            *self = Self { files: files.to_vec(), since: now, looks: 1, verified: None };
        }
    }

    /// Whether every file was last written longer ago than `quiet`, by the file system's word.
    fn is_old(&self, look: &Listing, quiet: Duration) -> bool {
        let age = |time: SystemTime| look.taken_wall.duration_since(time).unwrap_or_default();
        self.files.iter().all(|file| age(file.mtime.max(file.ctime)) >= quiet)
    }

    /// Whether it has been seen as it is for so long, whatever the files' times say.
    fn has_rested(&self, look: &Listing, quiet: Duration) -> bool {
        self.looks >= 2 && look.taken.duration_since(self.since) >= quiet
    }

    fn is_quiet(&self, look: &Listing, quiet: Duration) -> bool {
        self.has_rested(look, quiet) || (self.looks >= 2 && self.is_old(look, quiet))
    }

    fn wholeness(&mut self, version: &VersionFiles, look: &Listing, quiet: Duration, verify: Verify<'_>) -> Wholeness {
        let is_quiet = self.is_quiet(look, quiet);
        if let Some(fault) = version.faults.first() {
            return if is_quiet {
                Wholeness::Broken(Broken::Fault(fault.clone()))
            } else {
                Wholeness::Changing(Waiting::Quiet)
            };
        }
        if version.has(MANIFEST_FILE) {
            // A file that grows from look to look would be read anew each time, for nothing.
            if self.looks < 2 && !self.is_old(look, quiet) {
                return Wholeness::Changing(Waiting::Quiet);
            }
            let verdict = self.verified.take().unwrap_or_else(|| verify(version));
            // Files that couldn't be read may be readable next time.
            if !matches!(verdict, Err(ManifestError::Unreadable { .. })) {
                self.verified = Some(verdict.clone());
            }
            return match verdict {
                Ok(()) => Wholeness::Whole,
                Err(fault) if is_quiet => Wholeness::Broken(Broken::Manifest(fault)),
                Err(fault) => Wholeness::Changing(Waiting::Manifest(fault)),
            };
        }
        match version.has(MODEL_FILE) {
            true if is_quiet => Wholeness::Whole,
            // Files have times, those that are still to come have none.
            false if self.has_rested(look, quiet) => Wholeness::Broken(Broken::NoModel),
            _ => Wholeness::Changing(Waiting::Quiet),
        }
    }
}

/// How a file of a loaded version was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Touched {
    #[error("'{0}' was changed")]
    Changed(String),
    #[error("'{0}' was added")]
    Added(String),
    #[error("'{0}' was removed")]
    Removed(String),
}

/// What happened to the files of a version since it was loaded, in the order of their names. Versions are immutable:
/// anything but an empty answer is worth an alarm.
pub fn touched(loaded: &[FileStamp], now: &[FileStamp]) -> Vec<Touched> {
    let by_name = |files: &[FileStamp]| -> BTreeMap<String, FileStamp> {
        files.iter().map(|file| (file.name.clone(), file.clone())).collect()
    };
    let (loaded, mut now) = (by_name(loaded), by_name(now));
    let mut found: BTreeMap<String, Touched> = BTreeMap::new();
    for (name, before) in loaded {
        match now.remove(&name) {
            None => _ = found.insert(name.clone(), Touched::Removed(name)),
            // Not by the inode's time: a change of mode or owner is none of the contents.
            Some(after) if (after.len, after.mtime) != (before.len, before.mtime) => {
                _ = found.insert(name.clone(), Touched::Changed(name))
            }
            Some(_) => {}
        }
    }
    found.extend(now.into_keys().map(|name| (name.clone(), Touched::Added(name))));
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const QUIET: Duration = Duration::from_millis(100);

    /// Time in ms from the start of a test; files of a test are written at such times too.
    struct Clock {
        start: Instant,
        start_wall: SystemTime,
    }

    impl Clock {
        fn new() -> Self {
            Self { start: Instant::now(), start_wall: SystemTime::now() }
        }

        fn stamp(&self, name: &str, len: u64, written_ms: i64) -> FileStamp {
            let mtime = match u64::try_from(written_ms) {
                Ok(after) => self.start_wall + Duration::from_millis(after),
                Err(_) => self.start_wall - Duration::from_millis(written_ms.unsigned_abs()),
            };
            FileStamp { name: name.to_owned(), len, mtime, ctime: mtime }
        }

        /// A look at time `at_ms` that finds model m with version 1 and these files.
        fn look(&self, at_ms: u64, files: &[(&str, u64, i64)]) -> Listing {
            let files = files.iter().map(|&(name, len, at)| self.stamp(name, len, at)).collect();
            let version = VersionFiles { path: PathBuf::new(), files, faults: vec![] };
            let model = ListedModel {
                name: "m".into(),
                path: PathBuf::new(),
                model_yaml: None,
                config_pbtxt: None,
                config_files: vec![self.stamp("model.yaml", 1, -1000)],
                versions: [(1, version)].into(),
                faults: vec![],
                certain: true,
            };
            Listing {
                models: [("m".to_owned(), model)].into(),
                faults: vec![],
                taken: self.start + Duration::from_millis(at_ms),
                taken_wall: self.start_wall + Duration::from_millis(at_ms),
            }
        }
    }

    fn no_manifest(_: &VersionFiles) -> Result<(), ManifestError> {
        panic!("verified a version without a manifest")
    }

    fn observe(settling: &mut Settling, look: &Listing) -> Wholeness {
        settling.observe(look, &mut no_manifest)["m"].versions[&1].clone()
    }

    const CHANGING: Wholeness = Wholeness::Changing(Waiting::Quiet);

    #[test]
    fn old_files_are_whole_at_the_second_look() {
        let (clock, mut settling) = (Clock::new(), Settling::new(QUIET));
        let files = [("model.onnx", 9, -500)];
        let first = settling.observe(&clock.look(0, &files), &mut no_manifest);
        assert_eq!(first["m"], SettledModel { config_whole: false, versions: [(1, CHANGING)].into() });
        let second = settling.observe(&clock.look(1, &files), &mut no_manifest);
        assert_eq!(second["m"], SettledModel { config_whole: true, versions: [(1, Wholeness::Whole)].into() });
    }

    #[test]
    fn a_file_that_grows_is_never_whole() {
        let (clock, mut settling) = (Clock::new(), Settling::new(QUIET));
        for step in 0..50 {
            // Looks come more often than the writer writes, so that two in a row see the same.
            let files = [("model.onnx", step / 2, (step / 2 * 20) as i64)];
            assert_eq!(observe(&mut settling, &clock.look(step * 10, &files)), CHANGING, "step {step}");
        }
        let done = [("model.onnx", 24, 480)];
        assert_eq!(observe(&mut settling, &clock.look(570, &done)), CHANGING);
        assert_eq!(observe(&mut settling, &clock.look(580, &done)), Wholeness::Whole);
    }

    #[test]
    fn time_alone_makes_it_quiet_where_the_files_clock_is_wrong() {
        let (clock, mut settling) = (Clock::new(), Settling::new(QUIET));
        let files = [("model.onnx", 1, 99_999)];
        assert_eq!(observe(&mut settling, &clock.look(0, &files)), CHANGING);
        assert_eq!(observe(&mut settling, &clock.look(99, &files)), CHANGING);
        assert_eq!(observe(&mut settling, &clock.look(100, &files)), Wholeness::Whole);
    }

    #[test]
    fn a_second_file_starts_the_wait_again() {
        let (clock, mut settling) = (Clock::new(), Settling::new(QUIET));
        observe(&mut settling, &clock.look(0, &[("model.onnx", 1, 0)]));
        let both = [("model.onnx", 1, 0), ("weights.bin", 1, 90)];
        assert_eq!(observe(&mut settling, &clock.look(110, &both)), CHANGING);
        assert_eq!(observe(&mut settling, &clock.look(210, &both)), Wholeness::Whole);
    }

    #[test]
    fn broken_only_once_it_is_quiet() {
        let (clock, mut settling) = (Clock::new(), Settling::new(QUIET));
        assert_eq!(observe(&mut settling, &clock.look(0, &[])), CHANGING);
        assert_eq!(observe(&mut settling, &clock.look(99, &[])), CHANGING, "its files may be about to come");
        assert_eq!(observe(&mut settling, &clock.look(100, &[])), Wholeness::Broken(Broken::NoModel));
        assert_eq!(observe(&mut settling, &clock.look(101, &[("notes.txt", 1, -500)])), CHANGING);

        let fault = Fault::BadLink { name: "weights.bin".into() };
        let mut look = clock.look(102, &[("model.onnx", 1, -500)]);
        look.models.get_mut("m").unwrap().versions.get_mut(&1).unwrap().faults.push(fault.clone());
        assert_eq!(observe(&mut settling, &look), CHANGING);
        assert_eq!(observe(&mut settling, &look), Wholeness::Broken(Broken::Fault(fault)));
    }

    #[test]
    fn a_manifest_is_checked_once_for_each_state_of_the_files() {
        let (clock, mut settling) = (Clock::new(), Settling::new(QUIET));
        let mut calls = 0;
        let missing = ManifestError::Missing { file: "model.onnx".into() };
        let mut observe = |settling: &mut Settling, look: &Listing| {
            let verdict = settling.observe(look, &mut |version| {
                calls += 1;
                if version.has(MODEL_FILE) { Ok(()) } else { Err(ManifestError::Missing { file: MODEL_FILE.into() }) }
            });
            (verdict["m"].versions[&1].clone(), calls)
        };
        let half = [(MANIFEST_FILE, 1, 0)];
        assert_eq!(observe(&mut settling, &clock.look(0, &half)), (CHANGING, 0));
        let waiting = Wholeness::Changing(Waiting::Manifest(missing.clone()));
        assert_eq!(observe(&mut settling, &clock.look(1, &half)), (waiting, 1));
        assert_eq!(observe(&mut settling, &clock.look(200, &half)), (Wholeness::Broken(Broken::Manifest(missing)), 1));
        // Complete, and whole before its files have been quiet.
        let full = [(MANIFEST_FILE, 1, 0), (MODEL_FILE, 1, 210)];
        assert_eq!(observe(&mut settling, &clock.look(211, &full)), (CHANGING, 1));
        assert_eq!(observe(&mut settling, &clock.look(212, &full)), (Wholeness::Whole, 2));
        assert_eq!(observe(&mut settling, &clock.look(213, &full)), (Wholeness::Whole, 2));
        // Old files with a manifest are whole at the first look.
        let mut settling = Settling::new(QUIET);
        assert_eq!(observe(&mut settling, &clock.look(900, &full)), (Wholeness::Whole, 3));
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let (clock, mut settling) = (Clock::new(), Settling::new(QUIET));
        let mut look = clock.look(0, &[("model.onnx", 1, -500)]);
        observe(&mut settling, &look);
        look.models.get_mut("m").unwrap().versions.clear();
        settling.observe(&look, &mut no_manifest);
        assert!(settling.versions.is_empty());
        look.models.clear();
        settling.observe(&look, &mut no_manifest);
        assert!(settling.configs.is_empty());
    }

    #[test]
    fn a_touched_version_is_told_by_file() {
        let clock = Clock::new();
        let before = [clock.stamp("a", 1, 0), clock.stamp("b", 1, 0), clock.stamp("c", 1, 0)];
        let after = [clock.stamp("a", 1, 0), clock.stamp("b", 1, 5), clock.stamp("d", 1, 0)];
        assert_eq!(touched(&before, &before), []);
        let texts: Vec<String> = touched(&before, &after).iter().map(Touched::to_string).collect();
        assert_eq!(texts, ["'b' was changed", "'c' was removed", "'d' was added"]);
    }
}
