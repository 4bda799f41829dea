//! Metrics of what is on air now, per stream and per destination: written from the snapshots at each scrape.
//!
//! A recorder keeps every label it has ever seen; these labels come and go with the streams.

use std::fmt::Write;

use crate::live::snapshot::DestinationSnapshot;
use crate::live::snapshot::DestinationState;
use crate::live::snapshot::StreamSnapshot;

/// One metric: name, type, meaning, value.
type Metric<T> = (&'static str, &'static str, &'static str, fn(&T) -> f64);

const OF_STREAMS: [Metric<StreamSnapshot>; 9] = [
    ("target_video_kbps", "gauge", "Video bitrate that the encoder is asked for", |stream| {
        f64::from(stream.stats.target_video_kbps)
    }),
    ("programme_video_kbps", "gauge", "Video bitrate that the programme was created with", |stream| {
        f64::from(stream.programme.video_kbps)
    }),
    ("encoded_kbps", "gauge", "Encoded bits of video and audio over the last seconds", |stream| {
        stream.stats.bitrate_kbps as f64
    }),
    ("mixer_cpu_seconds_total", "counter", "Processor time that its mixers took", |stream| {
        stream.stats.mixer_cpu_ms as f64 / 1000.0
    }),
    ("mixer_memory_bytes", "gauge", "Memory of its mixer", |stream| stream.stats.mixer_memory_bytes as f64),
    ("playout_seconds", "gauge", "How long media waits for what was played with it", |stream| {
        f64::from(stream.stats.playout_ms) / 1000.0
    }),
    ("passed_through", "gauge", "1 while its picture goes out as it comes", |stream| {
        f64::from(u8::from(stream.stats.passed_through))
    }),
    ("passed_frames_total", "counter", "Video frames that went out as they came", |stream| {
        stream.stats.passed_frames as f64
    }),
    ("mixer_restarts_total", "counter", "Mixers after the first", |stream| stream.stats.mixer_restarts as f64),
];

const OF_DESTINATIONS: [Metric<DestinationSnapshot>; 7] = [
    ("live", "gauge", "1 while it is live", |seen| f64::from(u8::from(seen.state == DestinationState::Live))),
    ("sent_bytes_total", "counter", "Bytes its connection took", |seen| seen.bytes_sent as f64),
    ("acknowledged_bytes", "gauge", "Bytes its server acknowledged on this connection, if it does", |seen| {
        seen.bytes_acknowledged.unwrap_or(0) as f64
    }),
    ("sent_frames_total", "counter", "Frames sent", |seen| seen.frames_sent as f64),
    ("dropped_frames_total", "counter", "Frames it was too slow for", |seen| seen.dropped_frames as f64),
    ("reconnects_total", "counter", "Connections after the first", |seen| seen.reconnects as f64),
    ("queue_seconds", "gauge", "Age of the oldest frame that waits for it", |seen| seen.queue_ms as f64 / 1000.0),
];

/// In the text format of Prometheus; nothing while nothing is on air.
pub(super) fn render(streams: &[StreamSnapshot]) -> String {
    let mut text = String::new();
    if streams.is_empty() {
        return text;
    }
    for (name, kind, help, value) in OF_STREAMS {
        head(&mut text, &format!("jamcast_on_air_{name}"), kind, help);
        for stream in streams {
            line(&mut text, format_args!("jamcast_on_air_{name}{{stream=\"{}\"}} {}", stream.id, value(stream)));
        }
    }
    for (name, kind, help, value) in OF_DESTINATIONS {
        head(&mut text, &format!("jamcast_on_air_destination_{name}"), kind, help);
        for stream in streams {
            for seen in &stream.destinations {
                // Ids and the names of presets need no escaping.
                let labels =
                    format_args!("stream=\"{}\",destination=\"{}\",platform=\"{}\"", stream.id, seen.id, seen.platform);
                line(&mut text, format_args!("jamcast_on_air_destination_{name}{{{labels}}} {}", value(seen)));
            }
        }
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}"));
    line(text, format_args!("# TYPE {name} {kind}"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String does not fail");
}
