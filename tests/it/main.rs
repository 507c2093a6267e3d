//! What users rely on, tested as users meet it: a server process, real sockets, real clients, real files.

mod encodings;
mod interop;
mod isolation;
mod lifecycle;
mod limits;
mod partial_upload;
mod restart;
mod shutdown;
mod startup;
mod swap;
mod tidy;
mod zoo;

mod support;
