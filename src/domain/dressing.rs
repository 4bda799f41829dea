//! How a programme is dressed: names, a title, the colour behind everything; and how each musician's picture is retouched.

use crate::model::id::ParticipantId;
use crate::model::scene::Look;
use crate::model::scene::Rgb;

/// Looks remembered: of all who can be in a room, and of as many who may come back.
const MOST_LOOKS: usize = 256;

/// The most that a crop takes from two opposite sides together, as a share of the picture.
pub const MOST_CROP: f64 = 0.9;

/// See the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dressing {
    /// Whether everybody's name stands in their picture.
    pub captions: bool,
    /// One line, 1 to 100 characters.
    pub title: Option<String>,
    /// Base64 of a PNG or a JPEG.
    pub logo: Option<String>,
    pub background: Rgb,
    /// In front of the background and behind all pictures; base64 of a PNG or a JPEG.
    pub backdrop: Option<String>,
    /// Of cameras; the oldest first.
    looks: Vec<(ParticipantId, Look)>,
}

/// What is to be changed; `None` stays. The values have been checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DressingChange {
    pub captions: Option<bool>,
    /// `Some(None)` takes the title away.
    pub title: Option<Option<String>>,
    /// `Some(None)` takes the logo away.
    pub logo: Option<Option<String>>,
    pub background: Option<Rgb>,
    /// `Some(None)` takes the backdrop away.
    pub backdrop: Option<Option<String>>,
    pub looks: Vec<(ParticipantId, LookChange)>,
}

/// What is to be changed of a musician's picture; `None` stays. The values have been checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LookChange {
    pub crop: Option<[f64; 4]>,
    pub mirror: Option<bool>,
    pub brightness: Option<f64>,
    pub monochrome: Option<bool>,
}

impl Dressing {
    pub fn change(&mut self, change: DressingChange) {
        self.captions = change.captions.unwrap_or(self.captions);
        self.title = change.title.unwrap_or(self.title.take());
        self.logo = change.logo.unwrap_or(self.logo.take());
        self.background = change.background.unwrap_or(self.background);
        self.backdrop = change.backdrop.unwrap_or(self.backdrop.take());
        for (participant, change) in change.looks {
            let look = self.look(participant);
            let look = Look {
                crop: change.crop.unwrap_or(look.crop),
                mirror: change.mirror.unwrap_or(look.mirror),
                brightness: change.brightness.unwrap_or(look.brightness),
                monochrome: change.monochrome.unwrap_or(look.monochrome),
            };
            self.looks.retain(|(other, _)| *other != participant);
            if look != Look::default() {
                self.looks.push((participant, look));
            }
            let surplus = self.looks.len().saturating_sub(MOST_LOOKS);
            self.looks.drain(..surplus);
        }
    }

    /// Who became whom, by a new identifier.
    pub fn rename(&mut self, renamed: &[(ParticipantId, ParticipantId)]) {
        for (participant, _) in &mut self.looks {
            if let Some((_, newcomer)) = renamed.iter().find(|(left, _)| left == participant) {
                *participant = *newcomer;
            }
        }
    }

    /// How the musician's picture is retouched.
    pub fn look(&self, participant: ParticipantId) -> Look {
        self.looks.iter().find(|(other, _)| *other == participant).map(|(_, look)| *look).unwrap_or_default()
    }
}

/// A colour as `#rrggbb`.
pub fn colour(text: &str) -> Option<Rgb> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
    Some(Rgb([part(0)?, part(2)?, part(4)?]))
}

/// The other way round.
pub fn colour_name(Rgb([red, green, blue]): Rgb) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_touches_nothing_but_what_it_names() {
        let mut dressing = Dressing::default();
        let ann = ParticipantId::generate();
        let mirrored = LookChange { mirror: Some(true), ..LookChange::default() };
        dressing.change(DressingChange {
            title: Some(Some("Jam".to_owned())),
            looks: vec![(ann, mirrored)],
            ..DressingChange::default()
        });
        let grey = LookChange { monochrome: Some(true), crop: Some([0.1, 0.0, 0.1, 0.0]), ..LookChange::default() };
        dressing.change(DressingChange { captions: Some(true), looks: vec![(ann, grey)], ..DressingChange::default() });
        assert_eq!((dressing.title.as_deref(), dressing.captions), (Some("Jam"), true));
        let look = Look { mirror: true, monochrome: true, crop: [0.1, 0.0, 0.1, 0.0], brightness: 0.0 };
        assert_eq!(dressing.look(ann), look);
        assert_eq!(dressing.look(ParticipantId::generate()), Look::default());
        dressing.change(DressingChange { title: Some(None), ..DressingChange::default() });
        assert_eq!(dressing.title, None);
    }

    #[test]
    fn looks_are_bounded_and_forgotten_when_they_are_undone() {
        let mut dressing = Dressing::default();
        let mut last = ParticipantId::generate();
        for _ in 0..300 {
            last = ParticipantId::generate();
            let change = LookChange { mirror: Some(true), ..LookChange::default() };
            dressing.change(DressingChange { looks: vec![(last, change)], ..DressingChange::default() });
        }
        assert_eq!(dressing.looks.len(), MOST_LOOKS);
        assert!(dressing.look(last).mirror);
        let undone = LookChange { mirror: Some(false), ..LookChange::default() };
        dressing.change(DressingChange { looks: vec![(last, undone)], ..DressingChange::default() });
        assert_eq!(dressing.looks.len(), MOST_LOOKS - 1);
    }

    #[test]
    fn colours_are_six_digits() {
        assert_eq!(colour("#1a2B3c"), Some(Rgb([0x1a, 0x2b, 0x3c])));
        assert_eq!(colour_name(Rgb([1, 0xab, 255])), "#01abff");
        for wrong in ["", "#", "red", "#fff", "#12345g", "#+12345", "#1234567", "123456", "#äöü"] {
            assert_eq!(colour(wrong), None, "{wrong}");
        }
    }
}
