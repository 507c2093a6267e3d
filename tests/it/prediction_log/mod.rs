//! The prediction log as its users meet it: what requests leave on the disk, what is told of them later, and what comes
//! out of it.

mod deaf_receiver;
mod disk_full;
mod implicit_negatives;
mod kill;
mod late_labels;
mod readers;
mod receiver;
mod object_store;
mod retention;
mod retraining;
mod rows;
mod secrets;
mod segments;
mod site;
mod stalled_disk;
mod told;
