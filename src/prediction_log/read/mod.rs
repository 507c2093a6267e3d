//! The log as a reader finds it: sealed files, and the whole batches of segments that are still being written. Needs no
//! server, and a server need not stop for it.
//!
//! Segments are listed, and opened, before sealed files are. Whatever a writer seals meanwhile is then seen once: as the
//! sealed file if that was there to be listed, else through the segment that is open already.

mod error;
mod left_out;
mod listing;
mod lookup;
mod models;
mod newest;
mod place;
mod rows;
mod scan;
mod sealed;
mod segment;
mod told;
mod typed;
mod verify;

pub use self::error::ReadError;
pub use self::left_out::{LeftOut, settled};
pub use self::listing::{Source, list};
pub use self::lookup::lookup;
pub use self::newest::newest;
pub use self::place::Place;
pub use self::scan::{Batches, Scan};
pub use self::told::feedback_on;
pub use self::typed::{primitives, texts};
pub use self::verify::{Fault, Incarnation, Report, Torn, verify};

#[cfg(test)]
pub(crate) mod tests;
