//! A file system of eight megabytes, to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Gone when this is.
pub struct Small(PathBuf);

impl Small {
    /// `None` where mounting is not allowed.
    pub fn mount(folder: &Path) -> Option<Self> {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "headgate-test"]).arg(folder).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(folder.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
