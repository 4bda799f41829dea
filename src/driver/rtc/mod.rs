//! The SFU's workers: one thread and one UDP socket each, a room lives on one worker.
