//! One destination on air: its queue, its connection, its state.
