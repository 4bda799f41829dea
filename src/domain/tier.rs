//! Tiers: programmes by name, from 1080p60 to 480p30.

use serde::Deserialize;
use serde::Serialize;

use crate::model::spec::ProgrammeSpec;

/// The tiers that come with the gateway.
const EMBEDDED: &str = include_str!("../../pipelines/tiers.toml");

/// More would fill a page that people choose from.
const MOST: usize = 32;

/// A picture's size, rate and bitrate under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// 1 to 32 characters without spaces, such as `720p30`.
    pub name: String,
    /// Pixels, even, 160 to 3840.
    pub width: u32,
    /// Pixels, even, 90 to 2160.
    pub height: u32,
    /// Frames a second, 10 to 60.
    pub fps: u32,
    /// kbit/s, 200 to 50000.
    pub video_kbps: u32,
}

/// All tiers of an installation, in the order in which people should see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiers(Vec<Tier>);

/// A file of tiers that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TiersError {
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    #[error("there must be 1 to {MOST} tiers")]
    Count,
    #[error("the tier {name:?}: {reason}")]
    Tier { name: String, reason: &'static str },
}

impl Tiers {
    /// Reads a file such as `pipelines/tiers.toml`.
    ///
    /// # Errors
    /// When it cannot be read as one, or a tier is out of range or there twice.
    pub fn parse(text: &str) -> Result<Self, TiersError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            tier: Vec<Tier>,
        }
        let File { tier: tiers } = toml::from_str(text)?;
        if tiers.is_empty() || tiers.len() > MOST {
            return Err(TiersError::Count);
        }
        for (index, tier) in tiers.iter().enumerate() {
            let twice = tiers[..index].iter().any(|earlier| earlier.name == tier.name);
            if let Some(reason) = tier.fault().or(twice.then_some("its name is there twice")) {
                return Err(TiersError::Tier { name: tier.name.clone(), reason });
            }
        }
        Ok(Self(tiers))
    }

    /// All of them.
    pub fn all(&self) -> &[Tier] {
        &self.0
    }

    /// The tier of this name.
    pub fn named(&self, name: &str) -> Option<&Tier> {
        self.0.iter().find(|tier| tier.name == name)
    }
}

impl Default for Tiers {
    fn default() -> Self {
        Self::parse(EMBEDDED).expect("a test reads the embedded tiers")
    }
}

impl Tier {
    /// The programme of this tier; what a tier does not say is as in `programme`.
    pub fn programme(&self, programme: &ProgrammeSpec) -> ProgrammeSpec {
        let Self { width, height, fps, video_kbps, .. } = *self;
        ProgrammeSpec { width, height, fps, video_kbps, ..programme.clone() }
    }

    fn fault(&self) -> Option<&'static str> {
        let plain = |byte: u8| byte.is_ascii_graphic();
        if self.name.is_empty() || self.name.len() > 32 || !self.name.bytes().all(plain) {
            Some("a name has 1 to 32 characters without spaces")
        } else if !(160..=3840).contains(&self.width) || !(90..=2160).contains(&self.height) {
            Some("a picture has 160x90 to 3840x2160 pixels")
        } else if self.width % 2 + self.height % 2 > 0 {
            Some("width and height must be even")
        } else if !(10..=60).contains(&self.fps) {
            Some("fps must be 10 to 60")
        } else if !(200..=50_000).contains(&self.video_kbps) {
            Some("video_kbps must be 200 to 50000")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_tiers_are_those_of_broadcasting_and_hold_the_default() {
        let tiers = Tiers::default();
        let names: Vec<_> = tiers.all().iter().map(|tier| tier.name.as_str()).collect();
        assert_eq!(names, ["1080p60", "1080p30", "720p60", "720p30", "540p30", "480p30"]);
        for tier in tiers.all() {
            let lines = tier.name.split_once('p').expect("lines and rate");
            assert_eq!((tier.height.to_string().as_str(), tier.fps.to_string().as_str()), lines);
        }
        let default = ProgrammeSpec::default();
        assert_eq!(tiers.named("720p30").expect("there").programme(&default), default);
    }

    #[test]
    fn a_tier_that_no_mixer_can_make_is_refused_with_its_name_and_the_reason() {
        let tier = "[[tier]]\nname = \"odd\"\nwidth = 1280\nheight = 720\nfps = 30\nvideo_kbps = 2500\n";
        assert!(Tiers::parse(tier).is_ok());
        for (good, bad, told) in [
            ("1280", "1281", "even"),
            ("1280", "8000", "3840"),
            ("fps = 30", "fps = 300", "fps"),
            ("2500", "1", "video_kbps"),
            ("\"odd\"", "\"\"", "name"),
            ("fps", "frames", "line 5"),
        ] {
            let error = Tiers::parse(&tier.replace(good, bad)).expect_err(bad).to_string();
            assert!(error.contains(told), "{error}");
        }
        assert!(Tiers::parse(&tier.repeat(2)).expect_err("twice").to_string().contains("twice"));
        assert!(Tiers::parse("tier = []").is_err());
    }
}
