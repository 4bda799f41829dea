//! The programme of a new stream: what was asked for, the rest chosen so that every destination takes it; and the tiers to choose from.

use serde_json::Map;
use serde_json::Value;

use crate::domain::platform;
use crate::domain::platform::Platform;
use crate::domain::tier::Tiers;
use crate::live::port::DestinationRow;
use crate::model::spec::Latency;
use crate::model::spec::Passthrough;
use crate::model::spec::ProgrammeSpec;
use crate::web::api::v1::view::ProgrammeBody;
use crate::web::extract::Errors;
use crate::web::extract::Field;
use crate::web::extract::read_object;

/// Values are checked against what the mixer can make and against every destination's platform; all breaches are told.
pub(super) fn choose(
    asked: Field<Map<String, Value>>,
    tiers: &Tiers,
    destinations: &[DestinationRow],
    errors: &mut Errors,
) -> ProgrammeSpec {
    let platforms: Vec<_> = destinations.iter().filter_map(|row| Platform::named(&row.platform)).collect();
    let fitting = platform::fit(&ProgrammeSpec::default(), &platforms);
    let Some(asked) = asked.optional(errors, "/programme") else { return fitting };

    let body: ProgrammeBody = read_object(asked, "/programme", errors);
    let fitting = match body.tier.optional(errors, "/programme/tier") {
        Some(name) => match tiers.named(&name) {
            // Asked for by name it is not made smaller in silence; whether all take it is told below.
            Some(tier) => tier.programme(&fitting),
            None => {
                let names: Vec<_> = tiers.all().iter().map(|tier| tier.name.as_str()).collect();
                errors.add("/programme/tier", format!("must be one of {}", names.join(", ")));
                fitting
            }
        },
        None => fitting,
    };
    let passthrough = match body.passthrough.optional(errors, "/programme/passthrough").as_deref() {
        None => fitting.passthrough,
        Some("auto") => Passthrough::Auto,
        Some("off") => Passthrough::Off,
        Some(_) => {
            errors.add("/programme/passthrough", "must be one of auto, off");
            fitting.passthrough
        }
    };
    let latency = match body.latency.optional(errors, "/programme/latency").as_deref() {
        None => fitting.latency,
        Some("normal") => Latency::Normal,
        Some("low") => Latency::Low,
        Some(_) => {
            errors.add("/programme/latency", "must be one of normal, low");
            fitting.latency
        }
    };
    let mut number = |field: Field<u32>, name: &str, default: u32, min: u32, max: u32, even: bool| {
        let pointer = format!("/programme/{name}");
        let Some(value) = field.optional(errors, &pointer) else { return default };
        if !(min..=max).contains(&value) {
            errors.add(pointer, format!("must be {min} to {max}"));
        } else if even && value % 2 == 1 {
            errors.add(pointer, "must be even");
        }
        value
    };
    let programme = ProgrammeSpec {
        width: number(body.width, "width", fitting.width, 160, 3840, true),
        height: number(body.height, "height", fitting.height, 90, 2160, true),
        fps: number(body.fps, "fps", fitting.fps, 10, 60, false),
        video_kbps: number(body.video_kbps, "video_kbps", fitting.video_kbps, 200, 50_000, false),
        audio_kbps: number(body.audio_kbps, "audio_kbps", fitting.audio_kbps, 32, 320, false),
        keyframe_interval_s: number(
            body.keyframe_interval_s,
            "keyframe_interval_s",
            fitting.keyframe_interval_s,
            1,
            10,
            false,
        ),
        passthrough,
        latency,
    };
    for row in destinations {
        let Some(platform) = Platform::named(&row.platform) else { continue };
        for breach in platform.validate(&programme, &row.endpoint) {
            // The URL was checked when the destination was stored.
            if breach.pointer != "/url" {
                errors.add(format!("/programme{}", breach.pointer), breach.detail);
            }
        }
    }
    programme
}
