//! The room: participants, producers, consumers, and who is forwarded what.
