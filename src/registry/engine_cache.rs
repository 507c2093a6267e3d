//! Measurements of models that outlive the process: `engine-cache/` in the data directory.
//!
//! One small JSON file for each digest and processor. It is a cache: whatever is wrong with a file or the disk costs a new
//! measurement and a line in the log, nothing else. Blocking; for the measuring thread.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::batching::Measured;
use crate::engine::auto::EngineTime;
use crate::registry::digest::Digest;

/// The folder's name in the data directory.
pub const ENGINE_CACHE: &str = "engine-cache";
/// Measurements kept; beyond that the oldest file goes.
pub const MAX_CACHE_FILES: usize = 1024;
/// Longest file that is read, in bytes.
pub const MAX_CACHE_FILE_BYTES: u64 = 1 << 16;
/// Of the files' form; another one's files are passed over.
const FORMAT: u32 = 1;

/// The measurements of one build on one processor.
pub struct EngineCache {
    folder: PathBuf,
    build: String,
    processor: String,
}

/// What is kept of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub measured: Measured,
    /// What the choice between engines was made by; `None` where there was none to make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engines: Option<Vec<EngineTime>>,
}

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    digest: Digest,
    /// Another build may run the same model faster or slower.
    build: String,
    processor: String,
    #[serde(flatten)]
    kept: Kept,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it can't be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it has more than {MAX_CACHE_FILE_BYTES} bytes")]
    TooLong,
    #[error("it is no measurement: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("its times are no measurement")]
    Unsound,
    #[error("it has format {got}, expected {FORMAT}")]
    Format { got: u32 },
    #[error("it is that of digest {got}")]
    Digest { got: Digest },
}

impl EngineCache {
    /// The cache in a data directory, whose folder is made if it isn't there. `build` tells this build of the engine
    /// from others.
    ///
    /// # Errors
    /// The operating system's, when the folder can't be made.
    pub fn open(data_dir: &Path, build: &str) -> io::Result<Self> {
        Self::open_for(data_dir, build, processor())
    }

    fn open_for(data_dir: &Path, build: &str, processor: String) -> io::Result<Self> {
        let folder = data_dir.join(ENGINE_CACHE);
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, build: build.to_owned(), processor })
    }

    /// What was measured for these files by this build on this processor.
    pub fn load(&self, digest: &Digest) -> Option<Kept> {
        let path = self.path(digest);
        match read(&path, digest) {
            Ok(entry) => (entry.build == self.build && entry.processor == self.processor).then_some(entry.kept),
            Err(Unusable::Unreadable(cause)) if cause.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => {
                tracing::warn!(file = %path.display(), %cause, "a measurement is ignored and will be made again");
                None
            }
        }
    }

    /// Keeps a measurement, in place of an older one of the same files. A failure is logged.
    pub fn store(&self, digest: &Digest, kept: &Kept) {
        let entry = Entry {
            format: FORMAT,
            digest: *digest,
            build: self.build.clone(),
            processor: self.processor.clone(),
            kept: kept.clone(),
        };
        let path = self.path(digest);
        if let Err(cause) = self.write(&path, &entry).and_then(|()| self.remove_oldest()) {
            tracing::warn!(file = %path.display(), %cause, "a measurement could not be kept");
        }
    }

    fn write(&self, path: &Path, entry: &Entry) -> io::Result<()> {
        // A reader sees the old file or the new one. After a crash of the machine it may see a broken one, and ignore it.
        let unfinished = path.with_extension("tmp");
        fs::write(&unfinished, serde_json::to_vec(entry)?)?;
        fs::rename(unfinished, path)
    }

    fn remove_oldest(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = vec![];
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
        files.sort();
        let surplus = files.len().saturating_sub(MAX_CACHE_FILES);
        files.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }

    /// The processor is in the name too, so that machines that share a directory keep their own files.
    fn path(&self, digest: &Digest) -> PathBuf {
        let processor = Digest::of(self.processor.as_bytes()).to_string();
        self.folder.join(format!("{digest}-{}.json", &processor[..8]))
    }
}

fn read(path: &Path, digest: &Digest) -> Result<Entry, Unusable> {
    let mut bytes = vec![];
    File::open(path)?.take(MAX_CACHE_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_CACHE_FILE_BYTES {
        return Err(Unusable::TooLong);
    }
    let entry: Entry = serde_json::from_slice(&bytes)?;
    match entry {
        Entry { format, .. } if format != FORMAT => Err(Unusable::Format { got: format }),
        Entry { digest: got, .. } if got != *digest => Err(Unusable::Digest { got }),
        Entry { kept, .. } if !kept.measured.is_sound() => Err(Unusable::Unsound),
        entry => Ok(entry),
    }
}

/// The model name of the first processor and how many of them this process may use, such as `AMD EPYC, 2 cores`.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores", model_name(&text).unwrap_or(std::env::consts::ARCH))
}

/// The first `model name` in the text of /proc/cpuinfo.
fn model_name(cpuinfo: &str) -> Option<&str> {
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == "model name").map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batching::Point;

    fn measured(run_s: f64) -> Kept {
        let point = Point { rows: 1, unprepared_s: Some(run_s), prepared_s: None };
        let prepared = Point { rows: 2, unprepared_s: Some(2.5e-3), prepared_s: Some(1.2e-3) };
        let time = EngineTime { rows: 1, tract_s: Some(run_s), onnxruntime_s: None };
        Kept { measured: Measured { points: vec![point, prepared], max_rows: 256 }, engines: Some(vec![time]) }
    }

    fn open(folder: &tempfile::TempDir) -> EngineCache {
        EngineCache::open_for(folder.path(), "build 1", "Fast CPU, 2 cores".to_owned()).unwrap()
    }

    #[test]
    fn what_was_measured_is_there_after_a_restart() {
        let (folder, digest) = (tempfile::tempdir().unwrap(), Digest::of(b"model"));
        assert_eq!(open(&folder).load(&digest), None);
        open(&folder).store(&digest, &measured(0.5e-3));
        assert_eq!(open(&folder).load(&digest), Some(measured(0.5e-3)));
        open(&folder).store(&digest, &measured(0.1));
        assert_eq!(open(&folder).load(&digest), Some(measured(0.1)), "floats come back as they were");
        assert_eq!(open(&folder).load(&Digest::of(b"another")), None);
        let names: Vec<_> = fs::read_dir(folder.path().join(ENGINE_CACHE)).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing unfinished stays: {names:?}");
    }

    #[test]
    fn another_build_or_processor_measures_for_itself() {
        let (folder, digest) = (tempfile::tempdir().unwrap(), Digest::of(b"model"));
        open(&folder).store(&digest, &measured(1.0));
        let other = |build, processor: &str| EngineCache::open_for(folder.path(), build, processor.to_owned()).unwrap();
        assert_eq!(other("build 2", "Fast CPU, 2 cores").load(&digest), None);
        let slow = other("build 1", "Slow CPU, 2 cores");
        assert_eq!(slow.load(&digest), None);
        slow.store(&digest, &measured(9.0));
        assert_eq!(open(&folder).load(&digest), Some(measured(1.0)), "each keeps its own file");
    }

    #[test]
    fn files_that_are_broken_or_not_ours_are_passed_over() {
        let (folder, digest) = (tempfile::tempdir().unwrap(), Digest::of(b"model"));
        let cache = open(&folder);
        cache.store(&digest, &measured(1.0));
        let good = fs::read_to_string(cache.path(&digest)).unwrap();
        let broken = [
            String::new(),
            good[..good.len() / 2].to_owned(),
            "[]".to_owned(),
            good.replace("\"format\":1", "\"format\":2"),
            good.replace(&digest.to_string(), &Digest::of(b"another").to_string()),
            good.replace("\"rows\":1", "\"rows\":0"),
            good.replace("\"unprepared_s\":1.0", "\"unprepared_s\":-1.0"),
            " ".repeat(1 << 17) + &good,
        ];
        for text in broken {
            assert_ne!(text, good);
            fs::write(cache.path(&digest), &text).unwrap();
            assert_eq!(cache.load(&digest), None, "{text}");
        }
        fs::write(cache.path(&digest), good).unwrap();
        assert_eq!(cache.load(&digest), Some(measured(1.0)));
    }

    #[test]
    fn the_oldest_files_give_way() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(&folder);
        let old = SystemTime::UNIX_EPOCH;
        for number in 0..MAX_CACHE_FILES {
            let file = File::create(cache.folder.join(format!("{number}.json"))).unwrap();
            // All but the last were written long ago.
            if number + 1 < MAX_CACHE_FILES {
                file.set_modified(old + std::time::Duration::from_secs(number as u64)).unwrap();
            }
        }
        cache.store(&Digest::of(b"model"), &measured(1.0));
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), MAX_CACHE_FILES);
        assert!(!cache.folder.join("0.json").exists() && cache.folder.join("1.json").exists());
        assert!(cache.load(&Digest::of(b"model")).is_some());
    }

    #[test]
    fn a_processor_is_known_by_its_name() {
        let text = "processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nmodel name\t: other\n";
        assert_eq!(model_name(text), Some("Fast CPU @ 3 GHz"));
        assert_eq!(model_name("Features : fp asimd\n"), None);
        assert!(processor().ends_with(" cores"));
    }
}
