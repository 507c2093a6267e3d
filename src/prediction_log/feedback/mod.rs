//! What really happened, told later: one piece of feedback names a prediction and says what came of it.

pub mod item;

pub use self::item::{Credit, Feedback, Subject, Value};
