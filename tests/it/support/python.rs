//! Virtual environments of Python for the tests that need it, one for each folder with a requirements.txt.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// Set to 1 it leaves out, with a line of print, every test that needs Python and its packages.
pub const SKIP: &str = "HEADGATE_SKIP_INTEROP";

/// The Python of an environment with the packages that `tests/<folder>/requirements.txt` pins; `None`, with a line of
/// print, where the caller asked to leave such tests out. Panics where it can't be made.
pub fn python(folder: &str, what: &str) -> Option<PathBuf> {
    if std::env::var(SKIP).is_ok_and(|value| value == "1") {
        println!("skipped: {what} ({SKIP}=1)");
        return None;
    }
    // One at a time: two tests may need the same one.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let made = environment(folder);
    Some(made.unwrap_or_else(|reason| panic!("{what} can't be tested: {reason}; {SKIP}=1 leaves these tests out")))
}

/// The environment is made once for each content of requirements.txt; a file written last tells a whole one from one that
/// was cut off.
fn environment(folder: &str) -> Result<PathBuf, String> {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder).join("requirements.txt");
    let digest = Sha256::digest(std::fs::read(&requirements).map_err(|cause| cause.to_string())?);
    let key: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{folder}-{key}"));
    let python = |place: &Path| place.join("bin/python");
    let whole = place.join("whole");
    if whole.exists() {
        return Ok(python(&place));
    }
    let _ = std::fs::remove_dir_all(&place);
    let made = Command::new("python3").args(["-m", "venv"]).arg(&place).output();
    let made = made.map_err(|cause| format!("python3 can't be run ({cause})"))?;
    if !made.status.success() {
        return Err(format!("python3 -m venv failed ({})", last_line(&made)));
    }
    let pip = Command::new(python(&place))
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--quiet", "-r"])
        .arg(&requirements)
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| cause.to_string())?;
    if !pip.status.success() {
        return Err(format!(
            "the packages of tests/{folder}/requirements.txt can't be installed ({})",
            last_line(&pip)
        ));
    }
    std::fs::write(whole, "").map_err(|cause| cause.to_string())?;
    Ok(python(&place))
}

fn last_line(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&said).trim().lines().last().unwrap_or("no word").to_owned()
}
