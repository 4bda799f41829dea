//! Platform presets: what X.com, YouTube, Twitch, Facebook and Kick accept, and which limit a stream would break.
