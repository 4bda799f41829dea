//! Where each picture stands: pure functions from a number of sources to rectangles.
