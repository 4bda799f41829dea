//! The live window: the newest segments, which the playlist names, those it named a moment ago, and the playlist's text.

use std::collections::VecDeque;
use std::fmt::Write;

use bytes::Bytes;
use chrono::DateTime;
use chrono::SecondsFormat;

/// Target durations that the playlist is long: players begin three before its end and may be late by as many.
const LISTED: u64 = 6;

/// Target durations that segments stay, listed or not. One that has left the playlist must be there for its own duration and the
/// playlist's (RFC 8216 section 6.2.2): seven, and one for the last segment's length over its target.
const KEPT: u64 = LISTED + 8;

/// Bytes of all segments: what is kept of 18 Mbit/s with keyframes each 2 s.
const KEPT_BYTES: usize = 64 << 20;

/// What a decoder must know before a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    pub number: u32,
    pub data: Bytes,
}

/// Some seconds of the programme, which begin with a keyframe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// From 0 on, without a gap.
    pub number: u64,
    pub init: Init,
    /// Something is missing between the segment before and this one, or it is encoded otherwise.
    pub discontinuity: bool,
    /// When its first picture was shown, milliseconds since the Unix epoch.
    pub at_ms: i64,
    pub duration_us: u64,
    pub data: Bytes,
}

/// The segments of one stream that can be fetched.
#[derive(Debug)]
pub struct Window {
    target_s: u32,
    /// The oldest first.
    segments: VecDeque<Segment>,
    /// How many of them the playlist does not name any more.
    unlisted: usize,
    /// Discontinuities that have left the playlist.
    past_discontinuities: u64,
    ended: bool,
}

impl Window {
    /// Segments are at most `target_s` seconds long, to the nearest second.
    pub const fn new(target_s: u32) -> Self {
        Self { target_s, segments: VecDeque::new(), unlisted: 0, past_discontinuities: 0, ended: false }
    }

    /// Adds the newest segment and lets go of what is too old.
    pub fn push(&mut self, segment: Segment) {
        self.segments.push_back(segment);
        let target_us = u64::from(self.target_s) * 1_000_000;
        while self.duration_us(self.unlisted + 1) >= LISTED * target_us {
            self.unlist();
        }
        while self.duration_us(1) >= KEPT * target_us || self.bytes() > KEPT_BYTES && self.segments.len() > 1 {
            if self.unlisted == 0 {
                self.unlist();
            }
            self.segments.pop_front();
            self.unlisted -= 1;
        }
    }

    fn unlist(&mut self) {
        self.past_discontinuities += u64::from(self.segments[self.unlisted].discontinuity);
        self.unlisted += 1;
    }

    /// Of all but the oldest `skip` segments.
    fn duration_us(&self, skip: usize) -> u64 {
        self.segments.iter().skip(skip).map(|segment| segment.duration_us).sum()
    }

    fn bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.data.len()).sum()
    }

    /// No segment follows.
    pub const fn end(&mut self) {
        self.ended = true;
    }

    /// The media playlist; `None` before the first segment.
    pub fn playlist(&self) -> Option<String> {
        let listed = self.segments.range(self.unlisted..);
        let first = listed.clone().next()?;
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{}\n#EXT-X-INDEPENDENT-SEGMENTS\n",
            self.target_s, first.number, self.past_discontinuities
        );
        let mut init = None;
        for segment in listed {
            segment.describe(init, &mut text).expect("writing to a String does not fail");
            init = Some(segment.init.number);
        }
        if self.ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        Some(text)
    }

    pub fn segment(&self, number: u64) -> Option<Bytes> {
        let index = usize::try_from(number.checked_sub(self.segments.front()?.number)?).ok()?;
        self.segments.get(index).map(|segment| segment.data.clone())
    }

    pub fn init(&self, number: u32) -> Option<Bytes> {
        let first = self.segments.iter().find(|segment| segment.init.number == number)?;
        Some(first.init.data.clone())
    }
}

impl Segment {
    /// Its lines of the playlist; `init` is what the segments before it are decoded with.
    fn describe(&self, init: Option<u32>, text: &mut String) -> std::fmt::Result {
        if self.discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if init != Some(self.init.number) {
            writeln!(text, "#EXT-X-MAP:URI=\"init-{}.mp4\"", self.init.number)?;
        }
        if let Some(at) = DateTime::from_timestamp_millis(self.at_ms) {
            writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", at.to_rfc3339_opts(SecondsFormat::Millis, true))?;
        }
        let (seconds, micros) = (self.duration_us / 1_000_000, self.duration_us % 1_000_000);
        writeln!(text, "#EXTINF:{seconds}.{micros:06},\n{}.m4s", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u64, duration_ms: u64) -> Segment {
        Segment {
            number,
            init: Init { number: 1, data: Bytes::from_static(b"init") },
            discontinuity: false,
            at_ms: 1_000 * number.cast_signed(),
            duration_us: duration_ms * 1000,
            data: Bytes::from(number.to_string()),
        }
    }

    fn filled(segments: u64) -> Window {
        let mut window = Window::new(2);
        (0..segments).for_each(|number| window.push(segment(number, 2000)));
        window
    }

    #[test]
    fn a_playlist_reads_as_the_rfc_has_it() {
        let mut window = Window::new(2);
        assert_eq!(window.playlist(), None);
        window.push(segment(0, 2000));
        let second = Init { number: 2, data: Bytes::from_static(b"second") };
        window.push(Segment { discontinuity: true, init: second, ..segment(1, 1966) });
        window.push(Segment { init: window.segments[1].init.clone(), ..segment(2, 2000) });
        window.end();
        let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n\
            #EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-INDEPENDENT-SEGMENTS\n\
            #EXT-X-MAP:URI=\"init-1.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z\n#EXTINF:2.000000,\n0.m4s\n\
            #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-2.mp4\"\n\
            #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:01.000Z\n#EXTINF:1.966000,\n1.m4s\n\
            #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:02.000Z\n#EXTINF:2.000000,\n2.m4s\n#EXT-X-ENDLIST\n";
        assert_eq!(window.playlist().as_deref(), Some(expected));
    }

    #[test]
    fn the_newest_are_listed_and_those_before_them_can_still_be_fetched() {
        let window = filled(100);
        let playlist = window.playlist().expect("segments");
        assert!(playlist.contains("MEDIA-SEQUENCE:94\n"), "{playlist}");
        assert_eq!(playlist.matches(".m4s").count(), 6);
        assert_eq!(window.segment(99), Some(Bytes::from("99")));
        // Its own two seconds and the playlist's twelve after it was last listed.
        assert_eq!(window.segment(94 - 7), Some(Bytes::from("87")));
        assert_eq!([window.segment(85), window.segment(100), window.segment(u64::MAX)], [None, None, None]);
        assert_eq!((window.init(1), window.init(2)), (Some(Bytes::from_static(b"init")), None));
    }

    #[test]
    fn short_segments_do_not_make_the_playlist_shorter() {
        let mut window = filled(3);
        (3..40).for_each(|number| window.push(segment(number, 500)));
        let listed = window.playlist().expect("segments").matches(".m4s").count();
        assert_eq!(listed, 24);
        assert!(window.segments.len() <= 56);
    }

    #[test]
    fn a_discontinuity_is_counted_when_it_leaves_the_playlist() {
        let mut window = filled(3);
        window.push(Segment { discontinuity: true, ..segment(3, 2000) });
        (4..9).for_each(|number| window.push(segment(number, 2000)));
        let playlist = window.playlist().expect("segments");
        assert!(playlist.contains("SEQUENCE:3\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n"), "{playlist}");
        assert!(playlist.contains("#EXT-X-DISCONTINUITY\n"));
        window.push(segment(9, 2000));
        let playlist = window.playlist().expect("segments");
        assert!(playlist.contains("SEQUENCE:4\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n"), "{playlist}");
        assert!(!playlist.contains("#EXT-X-DISCONTINUITY\n"));
    }

    #[test]
    fn bytes_are_bounded_and_the_newest_stays() {
        let big = Bytes::from(vec![0; 20 << 20]);
        let mut window = Window::new(2);
        for number in 0..10 {
            window.push(Segment { data: big.clone(), discontinuity: number == 0, ..segment(number, 2000) });
            assert!(window.bytes() <= KEPT_BYTES);
        }
        let playlist = window.playlist().expect("segments");
        assert!(playlist.contains("MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n"), "{playlist}");
        window.push(Segment { data: Bytes::from(vec![0; KEPT_BYTES + 1]), ..segment(10, 2000) });
        assert_eq!(window.segments.len(), 1);
    }
}
