//! Platform presets: what X.com, YouTube, Twitch, Facebook and Kick accept, and which limit a stream would break.
//!
//! The values and their sources are in `config/platforms/*.toml`, which are part of the binary.

use std::sync::LazyLock;

use serde::Deserialize;
use serde::Serialize;

use crate::model::spec::ProgrammeSpec;
use crate::model::spec::RtmpEndpoint;

/// What one platform's ingest is and takes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// The name in destinations, and of the preset's file.
    pub name: String,
    /// The name people know.
    pub title: String,
    /// Where people find their stream key.
    pub key_page: Option<String>,
    /// Ingest servers, the best first guess first; empty where people bring their own.
    #[serde(default)]
    pub servers: Vec<Server>,
    pub limits: Limits,
    /// A programme that looks and sounds well there.
    pub recommended: ProgrammeSpec,
    pub hints: Hints,
}

/// One ingest server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// A region or a role, for people.
    pub label: String,
    /// URL without the key.
    pub url: String,
}

/// What a platform takes; `None` where it has, or publishes, no limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub video_codecs: Vec<String>,
    pub audio_codecs: Vec<String>,
    /// Pixels of the picture's longer side: a portrait picture is measured lying down.
    pub max_width: Option<u32>,
    /// Pixels of the picture's shorter side.
    pub max_height: Option<u32>,
    pub max_fps: Option<u32>,
    pub min_video_kbps: Option<u32>,
    pub max_video_kbps: Option<u32>,
    pub max_audio_kbps: Option<u32>,
    pub max_keyframe_interval_s: Option<u32>,
    /// Whether plain RTMP is refused.
    pub rtmps_only: bool,
}

/// What people should be told when a platform behaves as it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hints {
    /// It accepts the connection and closes it soon when something other than the network is wrong.
    pub early_close: Option<EarlyClose>,
    /// What may be missing although it takes the stream.
    pub on_air: Option<OnAir>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyClose {
    /// A close within this many milliseconds of publishing is meant.
    pub within_ms: u64,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OnAir {
    pub text: String,
}

/// The limits a stream can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    Resolution,
    Fps,
    MinVideoKbps,
    MaxVideoKbps,
    MaxAudioKbps,
    KeyframeInterval,
    RtmpsOnly,
}

/// One limit that a stream would break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    pub limit: Limit,
    /// JSON pointer (RFC 6901) of the value: into the programme (`/video_kbps`), or `/url` of the destination.
    pub pointer: &'static str,
    /// What is wrong and what to do, in one sentence.
    pub detail: String,
}

impl Platform {
    /// The preset of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|platform| platform.name == name)
    }

    /// Every preset, in the order in which people should see them.
    pub fn all() -> &'static [Self] {
        &*ALL
    }

    /// Every limit that this programme at this endpoint would break; empty if it fits.
    pub fn validate(&self, programme: &ProgrammeSpec, endpoint: &RtmpEndpoint) -> Vec<Breach> {
        let title = &self.title;
        let limits = &self.limits;
        let mut breaches = Vec::new();
        let mut breach = |limit, pointer, detail| breaches.push(Breach { limit, pointer, detail });

        if let Some((width, height)) = self.smaller_picture(programme) {
            breach(
                Limit::Resolution,
                if width < programme.width { "/width" } else { "/height" },
                format!(
                    "{title} takes pictures up to {}; this is {}x{}: make it {width}x{height}",
                    self.largest_picture(),
                    programme.width,
                    programme.height
                ),
            );
        }
        if let Some(max) = limits.max_fps.filter(|max| programme.fps > *max) {
            let detail =
                format!("{title} takes up to {max} frames a second; this is {}: set it to {max}", programme.fps);
            breach(Limit::Fps, "/fps", detail);
        }
        let video = programme.video_kbps;
        if let Some(min) = limits.min_video_kbps.filter(|min| video < *min) {
            let detail = format!("{title} wants at least {min} kbit/s of video; this is {video}: raise it to {min}");
            breach(Limit::MinVideoKbps, "/video_kbps", detail);
        }
        if let Some(max) = limits.max_video_kbps.filter(|max| video > *max) {
            let detail = format!("{title} takes up to {max} kbit/s of video; this is {video}: lower it to {max}");
            breach(Limit::MaxVideoKbps, "/video_kbps", detail);
        }
        let audio = programme.audio_kbps;
        if let Some(max) = limits.max_audio_kbps.filter(|max| audio > *max) {
            let detail = format!("{title} takes up to {max} kbit/s of audio; this is {audio}: lower it to {max}");
            breach(Limit::MaxAudioKbps, "/audio_kbps", detail);
        }
        let interval = programme.keyframe_interval_s;
        if let Some(max) = limits.max_keyframe_interval_s.filter(|max| interval > *max) {
            let detail = format!(
                "{title} wants a keyframe at least every {max} seconds; this is one every {interval}: set it to {max}"
            );
            breach(Limit::KeyframeInterval, "/keyframe_interval_s", detail);
        }
        if limits.rtmps_only && !endpoint.tls {
            breach(Limit::RtmpsOnly, "/url", format!("{title} takes RTMPS only: begin the URL with rtmps://"));
        }
        breaches
    }

    /// The largest picture of the same shape that fits, if this one does not.
    fn smaller_picture(&self, programme: &ProgrammeSpec) -> Option<(u32, u32)> {
        let (long, short) = (programme.width.max(programme.height), programme.width.min(programme.height));
        let max_long = self.limits.max_width.unwrap_or(long);
        let max_short = self.limits.max_height.unwrap_or(short);
        if long <= max_long && short <= max_short {
            return None;
        }
        // The side that is further beyond its limit decides the scale; the encoder needs even sides of at least 2.
        let (part, whole) = if u64::from(max_long) * u64::from(short) <= u64::from(max_short) * u64::from(long) {
            (max_long, long)
        } else {
            (max_short, short)
        };
        let scale = |side: u32| {
            let scaled = u64::from(side) * u64::from(part) / u64::from(whole);
            u32::try_from(scaled & !1).unwrap_or(u32::MAX).max(2)
        };
        Some((scale(programme.width), scale(programme.height)))
    }

    fn largest_picture(&self) -> String {
        let side = |limit: Option<u32>| limit.map_or_else(|| "any".to_owned(), |pixels| pixels.to_string());
        format!("{}x{}", side(self.limits.max_width), side(self.limits.max_height))
    }
}

/// The programme that all these platforms take: every value as asked for, or as near to it as the strictest limit allows.
///
/// Where one platform's minimum is above another's maximum no programme suits both; the maximum wins, since going beyond it gets a
/// stream closed, and [`Platform::validate`] tells about the other.
pub fn fit(programme: &ProgrammeSpec, platforms: &[&Platform]) -> ProgrammeSpec {
    let mut fitting = programme.clone();
    for Platform { limits, .. } in platforms {
        let at_least = |value: &mut u32, min: Option<u32>| *value = (*value).max(min.unwrap_or(0));
        at_least(&mut fitting.video_kbps, limits.min_video_kbps);
    }
    for platform in platforms {
        let limits = &platform.limits;
        let at_most = |value: &mut u32, max: Option<u32>| *value = (*value).min(max.unwrap_or(u32::MAX));
        at_most(&mut fitting.fps, limits.max_fps);
        at_most(&mut fitting.video_kbps, limits.max_video_kbps);
        at_most(&mut fitting.audio_kbps, limits.max_audio_kbps);
        at_most(&mut fitting.keyframe_interval_s, limits.max_keyframe_interval_s);
        if let Some((width, height)) = platform.smaller_picture(&fitting) {
            fitting.width = width;
            fitting.height = height;
        }
    }
    fitting
}

static ALL: LazyLock<[Platform; 6]> = LazyLock::new(|| {
    [
        include_str!("../../config/platforms/x.toml"),
        include_str!("../../config/platforms/youtube.toml"),
        include_str!("../../config/platforms/twitch.toml"),
        include_str!("../../config/platforms/facebook.toml"),
        include_str!("../../config/platforms/kick.toml"),
        include_str!("../../config/platforms/custom.toml"),
    ]
    .map(|text| toml::from_str(text).expect("a test reads every embedded preset"))
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use crate::model::spec::Latency;
    use crate::model::spec::Passthrough;

    use super::*;

    fn platform(name: &str) -> &'static Platform {
        Platform::named(name).expect("a preset")
    }

    fn endpoint(tls: bool) -> RtmpEndpoint {
        RtmpEndpoint { tls, host: "ingest.example".into(), port: 443, app: "live".into() }
    }

    fn broken(name: &str, change: impl FnOnce(&mut ProgrammeSpec)) -> Vec<(Limit, &'static str)> {
        let mut programme = platform(name).recommended.clone();
        change(&mut programme);
        let breaches = platform(name).validate(&programme, &endpoint(true));
        breaches.into_iter().map(|breach| (breach.limit, breach.pointer)).collect()
    }

    #[test]
    fn every_preset_is_well_formed_and_fits_itself() {
        let names: Vec<_> = Platform::all().iter().map(|platform| platform.name.as_str()).collect();
        assert_eq!(names, ["x", "youtube", "twitch", "facebook", "kick", "custom"]);
        for platform in Platform::all() {
            assert_eq!(platform.validate(&platform.recommended, &endpoint(true)), [], "{}", platform.name);
            assert_eq!(platform.servers.is_empty(), platform.name == "custom");
            for server in &platform.servers {
                let url = Url::parse(&server.url).expect("a URL");
                assert_eq!(url.scheme(), "rtmps", "{}", server.url);
                assert_eq!(url.port(), Some(443), "{}", server.url);
                assert!(url.path().len() > 1 && !url.path().ends_with('/'), "{}", server.url);
            }
        }
    }

    #[test]
    fn each_broken_limit_is_named_with_its_place() {
        assert_eq!(broken("x", |p| p.audio_kbps = 160), [(Limit::MaxAudioKbps, "/audio_kbps")]);
        assert_eq!(broken("x", |p| p.video_kbps = 12_001), [(Limit::MaxVideoKbps, "/video_kbps")]);
        assert_eq!(broken("x", |p| p.keyframe_interval_s = 4), [(Limit::KeyframeInterval, "/keyframe_interval_s")]);
        assert_eq!(broken("twitch", |p| p.fps = 61), [(Limit::Fps, "/fps")]);
        assert_eq!(broken("facebook", |p| p.video_kbps = 399), [(Limit::MinVideoKbps, "/video_kbps")]);
        assert_eq!(broken("kick", |p| (p.width, p.height) = (2560, 1440)), [(Limit::Resolution, "/width")]);
        assert_eq!(broken("youtube", |p| (p.width, p.height) = (2560, 1440)), []);
        assert_eq!(broken("kick", |p| (p.width, p.height) = (1080, 1920)), [], "portrait");
        let all = broken("twitch", |p| {
            *p = ProgrammeSpec {
                width: 3840,
                height: 2160,
                fps: 120,
                video_kbps: 9000,
                audio_kbps: 512,
                keyframe_interval_s: 9,
                ..ProgrammeSpec::default()
            };
        });
        assert_eq!(all.len(), 5, "every breach is told at once");
    }

    #[test]
    fn plain_rtmp_is_refused_where_the_platform_refuses_it() {
        let at = |name: &str| platform(name).validate(&platform(name).recommended, &endpoint(false));
        let limits: Vec<_> = at("facebook").into_iter().map(|breach| (breach.limit, breach.pointer)).collect();
        assert_eq!(limits, [(Limit::RtmpsOnly, "/url")]);
        assert_eq!(at("custom"), []);
    }

    #[test]
    fn a_breach_says_what_to_do() {
        let programme = ProgrammeSpec { audio_kbps: 160, ..ProgrammeSpec::default() };
        let breaches = platform("x").validate(&programme, &endpoint(true));
        assert_eq!(breaches[0].detail, "X takes up to 128 kbit/s of audio; this is 160: lower it to 128");
        let programme = ProgrammeSpec { width: 3840, height: 2160, audio_kbps: 128, ..ProgrammeSpec::default() };
        let breaches = platform("x").validate(&programme, &endpoint(true));
        assert_eq!(breaches[0].detail, "X takes pictures up to 1920x1080; this is 3840x2160: make it 1920x1080");
    }

    #[test]
    fn the_default_programme_is_fitted_to_the_strictest_platform() {
        let default = ProgrammeSpec::default();
        assert_eq!(fit(&default, &[platform("youtube"), platform("twitch")]), default);
        assert_eq!(fit(&default, &[]), default);
        let fitted = fit(&default, &[platform("twitch"), platform("x"), platform("custom")]);
        assert_eq!(fitted, ProgrammeSpec { audio_kbps: 128, ..default });
    }

    #[test]
    fn x_tells_a_wrong_key_by_an_early_close() {
        let hint = platform("x").hints.early_close.as_ref().expect("a hint");
        assert!((4_000..10_000).contains(&hint.within_ms), "X closes after about 4 s");
        assert!(hint.text.contains("key"));
    }

    proptest! {
        #[test]
        fn a_fitted_programme_breaks_no_limit_and_exceeds_no_wish(
            width in 1u32..4000, height in 1u32..4000, fps in 1u32..200, video_kbps in 100u32..100_000,
            audio_kbps in 32u32..600, keyframe_interval_s in 1u32..20, chosen in proptest::collection::vec(0usize..6, 0..6),
        ) {
            let wish = ProgrammeSpec {
                width: width * 2, height: height * 2, fps, video_kbps, audio_kbps, keyframe_interval_s,
                passthrough: Passthrough::Auto, latency: Latency::Low,
            };
            let platforms: Vec<_> = chosen.iter().map(|index| &Platform::all()[*index]).collect();
            let fitted = fit(&wish, &platforms);
            for platform in &platforms {
                prop_assert_eq!(platform.validate(&fitted, &endpoint(true)), []);
            }
            prop_assert!(fitted.width <= wish.width && fitted.height <= wish.height && fitted.fps <= wish.fps);
            prop_assert!(fitted.width.is_multiple_of(2) && fitted.height.is_multiple_of(2));
            prop_assert!(fitted.width > 0 && fitted.height > 0);
            prop_assert_eq!(fit(&fitted, &platforms), fitted);
        }
    }
}
