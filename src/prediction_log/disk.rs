//! What the log asks of the disk, in one place, so that a test can stall it, slow it down or fill it.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Changes to the disk; reading goes past it. Each call may block for as long as the disk does.
pub trait Disk: Debug + Send + Sync {
    /// Makes a file that is appended to, and the folders above it. Readable by its owner alone.
    ///
    /// # Errors
    /// `AlreadyExists`, and what the disk says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, at once; what has that name is replaced.
    ///
    /// # Errors
    /// What the disk says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. One that is not there is no error.
    ///
    /// # Errors
    /// What the disk says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// What the disk says.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// How full the file system of a folder is.
    ///
    /// # Errors
    /// What the disk says.
    fn usage(&self, folder: &Path) -> io::Result<Usage>;
}

/// A file that is appended to.
pub trait DiskFile: Write + Debug + Send {
    /// Makes what was written durable (fdatasync).
    ///
    /// # Errors
    /// What the disk says.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to its first `length` bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// Bytes of a file system, as `df` counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub used_bytes: u64,
    /// What may still be written without privileges.
    pub free_bytes: u64,
}

impl Usage {
    /// From 0 to 1.
    pub fn share(self) -> f64 {
        let total = self.used_bytes.saturating_add(self.free_bytes);
        if total == 0 { 0.0 } else { self.used_bytes as f64 / total as f64 }
    }
}

/// The operating system's.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl RealDisk {
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if let Some(folder) = path.parent() {
            make_folders(folder)?;
        }
        let mut options = OpenOptions::new();
        options.append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Box::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn usage(&self, folder: &Path) -> io::Result<Usage> {
        let found = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Usage { used_bytes: bytes(found.f_blocks.saturating_sub(found.f_bfree)), free_bytes: bytes(found.f_bavail) })
    }
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// Makes a folder and those above it, each of them durable in its own.
fn make_folders(folder: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<PathBuf> = folder.ancestors().take_while(is_missing).map(Path::to_owned).collect();
    fs::create_dir_all(folder)?;
    for made in missing.iter().rev() {
        let above = made.parent().filter(|above| !above.as_os_str().is_empty());
        File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}
