//! What one consumer gets of a stream in layers: those it is to have, under numbers of their own that go on without a gap.

use std::collections::VecDeque;

use crate::domain::room::layer::Frame;
use crate::domain::room::picture::Numbers;

/// Places remembered for packets that come late: three seconds of a camera, like all windows here.
const WINDOW: u16 = 1024;
/// Changes of layers remembered; more of them within a window are of somebody who drags a tile about.
const MAX_CHANGES: usize = 4;

/// The highest layers that somebody gets, counted from 0. Each picture has all layers up to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Of size.
    pub spatial: u8,
    /// Of frame rate.
    pub temporal: u8,
}

impl Layers {
    /// Whatever there is.
    pub const ALL: Self = Self { spatial: u8::MAX, temporal: u8::MAX };

    /// Whether these need a layer frame. Under the highest spatial layer some are of no use to it, those excepted whose receiver may
    /// want any.
    pub const fn need(self, frame: Frame) -> bool {
        let is_under = frame.spatial < self.spatial && self.spatial != Self::ALL.spatial;
        frame.temporal <= self.temporal && frame.spatial <= self.spatial && !(is_under && frame.is_spare)
    }

    /// Bits of the spatial layers.
    const fn mask(self) -> u8 {
        if self.spatial >= 7 { u8::MAX } else { (1 << (self.spatial + 1)) - 1 }
    }
}

impl Default for Layers {
    fn default() -> Self {
        Self::ALL
    }
}

/// How much of a packet goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All of it, as it came.
    #[default]
    Whole,
    /// All of it, and it is the last one of its picture: what the sender has of it beyond does not go out.
    Last,
    /// Its number only: it was taken for a packet that was lost, and turns out to be of a layer that does not go out.
    Number,
}

/// What the selector needs to know of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) seq: u16,
    pub(super) timestamp: u32,
    pub(super) numbers: Option<Numbers>,
    pub(super) frame: Frame,
}

/// The choice of layers of one consumer in one run of a source.
///
/// Fewer temporal layers are enough at any picture, more of them at any after a switching point. Fewer spatial layers are enough at any
/// picture as long as the receiver has had all that the lower ones build on, and more of them from the next keyframe on.
#[derive(Clone, Debug)]
pub(super) struct Selector {
    wanted: Layers,
    /// The layers that went out at first, and each later choice with the number it holds from.
    first: Layers,
    changes: VecDeque<(u16, Layers)>,
    /// The highest spatial layer that the sender said there is.
    top: u8,
    /// A bit for each spatial layer of which the receiver has everything since the keyframe.
    intact: u8,
    /// No picture that more temporal layers would build on was left out.
    may_rise: bool,
    newest: Newest,
    /// The number for the next packet that goes out.
    next: u16,
    /// The number that each packet of the window went out with or would, by its own.
    places: Vec<Option<u16>>,
}

/// The newest packet that came.
#[derive(Clone, Copy, Debug)]
struct Newest {
    seq: u16,
    timestamp: u32,
    numbers: Option<Numbers>,
    place: Place,
}

/// Where a packet lies in its picture, in the order of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Below all that goes out, and of no use to it.
    Below,
    /// In what goes out.
    Within,
    /// It is the last that goes out, or behind that, or nothing of its picture goes out.
    Behind,
}

impl Selector {
    /// Begins at this packet, which is of a keyframe and goes out with the number `next`.
    pub(super) fn new(wanted: Layers, packet: &Packet, next: u16) -> Self {
        let newest = Newest {
            seq: packet.seq.wrapping_sub(1),
            timestamp: packet.timestamp.wrapping_sub(1),
            numbers: None,
            place: Place::Within,
        };
        let places = vec![None; usize::from(WINDOW)];
        let mut selector = Self {
            wanted,
            first: wanted,
            changes: VecDeque::new(),
            top: u8::MAX,
            intact: 0,
            may_rise: true,
            newest,
            next,
            places,
        };
        selector.turn(packet);
        selector.first = selector.current();
        selector.changes.clear();
        selector
    }

    /// What is to go out as soon as the stream allows.
    pub(super) fn want(&mut self, wanted: Layers) {
        self.wanted = wanted;
    }

    /// What goes out now.
    pub(super) fn current(&self) -> Layers {
        self.changes.back().map_or(self.first, |(_, layers)| *layers)
    }

    /// Whether it takes a keyframe until what is wanted can go out.
    pub(super) fn needs_keyframe(&self) -> bool {
        let (current, goal) = (self.current().spatial, self.goal().spatial);
        goal > current || (goal < current && !self.is_intact(goal))
    }

    /// Whether fewer spatial layers, if those are what is wanted, are enough from the next picture on.
    pub(super) fn can_step_down(&self) -> bool {
        let (current, goal) = (self.current().spatial, self.goal().spatial);
        goal >= current || self.is_intact(goal)
    }

    /// The number a packet leaves with, and how much of it; `None` keeps it back.
    pub(super) fn take(&mut self, packet: &Packet) -> Option<(u16, Part)> {
        let ahead = packet.seq.wrapping_sub(self.newest.seq);
        if ahead == 0 || ahead >= 0x8000 {
            return self.take_late(packet);
        }
        self.pass_over(packet, ahead - 1);
        if packet.timestamp != self.newest.timestamp {
            self.turn(packet);
        }
        let layers = self.current();
        let frame = packet.frame;
        let goes = layers.need(frame);
        self.newest = Newest {
            seq: packet.seq,
            timestamp: packet.timestamp,
            numbers: packet.numbers,
            place: place(layers, frame),
        };
        if frame.temporal > layers.temporal {
            self.may_rise = false;
        } else if frame.is_switching_point {
            self.may_rise = true;
        }
        if !goes {
            if frame.temporal <= layers.temporal {
                self.intact &= !1_u8.checked_shl(frame.spatial.into()).unwrap_or(0);
            }
            self.note(packet.seq, None);
            return None;
        }
        let number = self.number();
        self.note(packet.seq, Some(number));
        Some((number, part(layers, frame)))
    }

    /// Takes a packet of no picture, such as browsers send to see how much fits: nobody needs it, and no number is used for it, unless one
    /// is kept for it already.
    pub(super) fn take_empty(&mut self, seq: u16) -> Option<(u16, Part)> {
        let ahead = seq.wrapping_sub(self.newest.seq);
        if ahead == 0 || ahead >= 0x8000 {
            return self.kept(seq).map(|number| (number, Part::Number));
        }
        self.keep(seq, ahead - 1);
        self.newest.seq = seq;
        self.note(seq, None);
        None
    }

    /// A packet from before the newest: its number is kept for it if it was not known to stay behind.
    fn take_late(&self, packet: &Packet) -> Option<(u16, Part)> {
        let number = self.kept(packet.seq)?;
        let held = self.changes.iter().rev().find(|(from, _)| packet.seq.wrapping_sub(*from) < 0x8000);
        let layers = held.map_or(self.first, |(_, layers)| *layers);
        let part = if layers.need(packet.frame) { part(layers, packet.frame) } else { Part::Number };
        Some((number, part))
    }

    /// Keeps numbers for the packets that are missing before this one, unless they are certain to be of what does not go out.
    fn pass_over(&mut self, packet: &Packet, missing: u16) {
        if missing > 0 && self.is_nothing_before(packet) {
            for back in 1..=missing.min(WINDOW) {
                self.note(packet.seq.wrapping_sub(back), None);
            }
        } else {
            self.keep(packet.seq, missing);
        }
    }

    /// Keeps numbers for so many packets before this one.
    fn keep(&mut self, seq: u16, missing: u16) {
        for back in (1..=missing.min(WINDOW)).rev() {
            let number = self.number();
            self.note(seq.wrapping_sub(back), Some(number));
        }
    }

    /// The number kept for a packet from before the newest.
    fn kept(&self, seq: u16) -> Option<u16> {
        if self.newest.seq.wrapping_sub(seq) >= WINDOW { None } else { self.places[usize::from(seq % WINDOW)] }
    }

    /// Whether nothing that goes out lies between the newest packet and this one.
    fn is_nothing_before(&self, packet: &Packet) -> bool {
        let newest = self.newest;
        if packet.timestamp == newest.timestamp {
            let is_below = newest.place == Place::Below && place(self.current(), packet.frame) == Place::Below;
            return newest.place == Place::Behind || is_below;
        }
        let follows = newest.numbers.zip(packet.numbers).is_some_and(|(before, own)| own.follow(before));
        newest.place == Place::Behind && follows && packet.frame.begins && packet.frame.spatial == 0
    }

    /// Decides about the picture that begins with this packet, or of which this is the first to come.
    fn turn(&mut self, packet: &Packet) {
        let frame = packet.frame;
        if let Some(top) = frame.top {
            self.top = top;
        }
        let (mut layers, goal) = (self.current(), self.goal());
        if frame.is_key() {
            layers = goal;
            self.intact = u8::MAX;
            self.may_rise = true;
        } else {
            if goal.temporal < layers.temporal || self.may_rise {
                layers.temporal = goal.temporal;
            }
            if goal.spatial < layers.spatial && self.is_intact(goal.spatial) {
                layers.spatial = goal.spatial;
            }
        }
        self.intact &= layers.mask();
        if layers != self.current() {
            self.changes.push_back((packet.seq, layers));
        }
        let newest = self.newest.seq;
        let is_old =
            |(from, _): &(u16, Layers)| newest.wrapping_sub(*from) < 0x8000 && newest.wrapping_sub(*from) > WINDOW;
        while self.changes.len() > MAX_CHANGES || self.changes.front().is_some_and(is_old) {
            self.first = self.changes.pop_front().map_or(self.first, |(_, layers)| layers);
        }
    }

    /// What is wanted, as far as there is so much.
    fn goal(&self) -> Layers {
        let spatial =
            if self.wanted.spatial == Layers::ALL.spatial { u8::MAX } else { self.wanted.spatial.min(self.top) };
        Layers { spatial, temporal: self.wanted.temporal }
    }

    /// Whether the receiver has all of this spatial layer since the keyframe, and of those it builds on.
    fn is_intact(&self, spatial: u8) -> bool {
        1_u8.checked_shl(spatial.into()).is_some_and(|bit| self.intact & bit != 0)
    }

    fn number(&mut self) -> u16 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    fn note(&mut self, seq: u16, number: Option<u16>) {
        self.places[usize::from(seq % WINDOW)] = number;
    }
}

fn part(layers: Layers, frame: Frame) -> Part {
    if frame.ends && frame.spatial == layers.spatial { Part::Last } else { Part::Whole }
}

fn place(layers: Layers, frame: Frame) -> Place {
    if frame.temporal > layers.temporal || frame.spatial > layers.spatial || part(layers, frame) == Part::Last {
        Place::Behind
    } else if layers.need(frame) {
        Place::Within
    } else {
        Place::Below
    }
}

#[cfg(test)]
mod tests;
