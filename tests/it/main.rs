//! What users rely on, tested as users meet it: a server process, real sockets, real clients, real files.

mod cli;
mod docs;
mod inspect;
mod support;
