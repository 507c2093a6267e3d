//! Panics of an engine, caught: they become errors of the request or the load that met them.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Where the last panic of caught work on this thread came from; `None` while no such work runs.
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics that are caught here off the standard error stream, which one bad request after the other could fill
/// with backtraces. Every other panic goes to the hook that was there before. To be called by the program, once; further
/// calls do nothing.
pub fn quiet_caught_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_caught = PANICKED_AT.with_borrow_mut(|place| match place {
                Some(place) => {
                    *place = info.location().map(ToString::to_string).unwrap_or_default();
                    true
                }
                None => false,
            });
            if !is_caught {
                others(info);
            }
        }));
    });
}

/// Runs `work`.
///
/// # Errors
/// The text of a panic, with its place where [`quiet_caught_panics`] was called. It is for the log alone.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = PANICKED_AT.replace(Some(String::new()));
    // What `work` may leave half done is its own: a graph, a session or a run state that is dropped here.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let place = PANICKED_AT.replace(outer).unwrap_or_default();
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        if place.is_empty() { text } else { format!("{text} at {place}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_comes_back_with_its_place() {
        quiet_caught_panics();
        let text = caught(|| panic!("secret {}", 1)).unwrap_err();
        assert!(text.starts_with("secret 1 at ") && text.contains("src/engine/panics.rs:"), "{text}");
        assert_eq!(caught(|| 7), Ok(7));
    }
}
