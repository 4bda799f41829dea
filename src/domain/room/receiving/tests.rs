//! What receivers get, in virtual time: the layers that fill their tiles, and what comes through links of all kinds.

mod jam;
mod links;
mod scalable;
