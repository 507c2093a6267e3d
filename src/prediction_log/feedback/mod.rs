//! What really happened, told later: one piece of feedback names a prediction and says what came of it.

pub mod batches;
pub mod credit;
pub mod item;
pub mod keeper;
pub mod log;
mod recent;
pub mod requests;
pub mod rows;
pub mod sink;
#[cfg(test)]
pub mod testing;
pub mod told;

pub use self::batches::Batches;
pub use self::credit::Credits;
pub use self::item::{Credit, Feedback, FeedbackId, Subject, Value};
pub use self::keeper::Parts;
pub use self::log::{FeedbackLog, Taken};
pub use self::requests::RequestIndex;
pub use self::sink::Segments;
pub use self::told::{ItemFault, MAX_ITEMS, Told, ToldTime, ToldValue, check_count};
pub use super::stream::unix_us;

/// Holds feedback against the predictions it is about, as it comes in. Called on the feedback log's thread, once an item
/// is in its segment; must not block.
pub trait Judge: Send {
    /// One new item, in the order of receipt; items that were told before in the same words don't come again.
    ///
    /// The subject is a prediction id wherever that is known: a row of a request whose id this process has seen of late
    /// is named by its prediction. `credit` is `None` for a prediction that is not known here, such as one of another
    /// gateway.
    fn judge(&mut self, feedback: &Feedback, credit: Option<&Credit>);

    /// Time passes: called at least once a second, at `now_us`, Unix time in µs.
    fn tick(&mut self, now_us: i64);
}
