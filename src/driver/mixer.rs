//! Mixer children: starts them, carries messages over the inherited socketpair, kills them when dropped.
