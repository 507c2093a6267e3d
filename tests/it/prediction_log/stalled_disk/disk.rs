//! A disk that a test can halt and slow down while a server writes to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::repository::TempDir;

pub struct Disk {
    folder: TempDir,
}

impl Disk {
    /// A disk that is as it should be. Compiles what is put between the server and the C library.
    pub fn new() -> Self {
        let folder = TempDir::new();
        folder.write("disk.c", include_str!("disk.c"));
        let library = folder.path().join("disk.so");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(library)
            .arg(folder.path().join("disk.c"))
            .arg("-ldl")
            .output()
            .expect("a C compiler, which links Rust's programs too");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { folder }
    }

    /// The environment of a server that keeps its data on this disk.
    pub fn below(&self, data: &Path) -> [(&'static str, PathBuf); 3] {
        [
            ("LD_PRELOAD", self.folder.path().join("disk.so")),
            ("HEADGATE_TEST_DISK", data.to_owned()),
            ("HEADGATE_TEST_STALL", self.told()),
        ]
    }

    /// No write and no sync returns from now on.
    pub fn halt(&self) {
        self.folder.write("stall", "");
    }

    /// Each write and each sync takes so long from now on.
    pub fn slow_down(&self, call_ms: u32) {
        self.folder.write("stall", call_ms.to_string());
    }

    pub fn go_on(&self) {
        std::fs::remove_file(self.told()).unwrap();
    }

    fn told(&self) -> PathBuf {
        self.folder.path().join("stall")
    }
}
