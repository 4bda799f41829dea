//! Behaviour of the public surface, in virtual time or over loopback, one module per part.

mod adaptation;
mod api;
mod canvas;
mod confinement;
mod ingest;
mod mixer_link;
mod publish;
mod room;
mod signal;
mod store;
mod stream;
mod uploads;
