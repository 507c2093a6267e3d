//! The prediction log as its users meet it: what requests leave on the disk, what is told of them later, and what comes
//! out of it.

mod disk_full;
mod kill;
mod late_labels;
mod readers;
mod object_store;
mod retraining;
mod rows;
mod secrets;
mod site;
mod stalled_disk;
mod told;
