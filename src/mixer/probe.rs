//! What this machine can do with its pipeline descriptions: each of them is built, and each encoder encodes some pictures.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;

use crate::mixer::error::Error;
use crate::mixer::pipelines::Piece;
use crate::mixer::pipelines::Pipelines;
use crate::mixer::pipelines::holes_of;
use crate::mixer::pipelines::is_comment;
use crate::mixer::programme::launch;
use crate::mixer::programme::named;
use crate::mixer::programme::play;
use crate::mixer::programme::reason_of;
use crate::mixer::programme::stop;
use crate::model::encoder::Encoder;
use crate::proto::mixer::EncoderProbe;
use crate::proto::mixer::PipelineFault;
use crate::proto::mixer::Probe;

/// An encoder that gives nothing by then does not work.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(5);

/// What an encoder is tried with.
const PICTURES: &str = "videotestsrc num-buffers=8 ! video/x-raw,format=I420,width=640,height=360,framerate=30/1 ! ";
const FRAMES: &str = " ! appsink name=video sync=false";

/// Where elements come from.
const PLUGINS: &str = "; is it misspelt, or does one of Debian's gstreamer1.0-plugins-{base,good,bad,ugly} and -libav have to be installed?";

/// A number for each hole.
const HOLES: [(&str, u32); 10] = [
    ("width", 640),
    ("height", 360),
    ("fps", 30),
    ("video_kbps", 500),
    ("video_bps", 500_000),
    ("keyframe_frames", 60),
    ("threads", 1),
    ("audio_bps", 128_000),
    ("payload_type", 96),
    ("most_pixels", 4096),
];

/// Tries everything that there is.
pub(super) fn probe(pipelines: &Pipelines) -> Probe {
    let encoders: Vec<_> = Encoder::ALL.into_iter().map(|encoder| try_encoder(pipelines, encoder)).collect();
    let works = |tried: &EncoderProbe| tried.failure.is_none();
    let broken = Piece::all().filter(|piece| match piece {
        // Where it is the file's own fault it is told as such, and not as an encoder that this machine lacks.
        Piece::Encoder(_) => pipelines.is_own(*piece),
        // Without its encoder nothing can be said of it.
        Piece::Programme => encoders.iter().any(|tried| tried.encoder == pipelines.encoder() && works(tried)),
        Piece::Recording
        | Piece::Decoder(_)
        | Piece::Canvas(_)
        | Piece::StemFile
        | Piece::Stem(_)
        | Piece::Thumbnails
        | Piece::Still
        | Piece::Preview => true,
    });
    let faults = unknown(pipelines).chain(broken.filter_map(|piece| fault(pipelines, piece))).collect();
    Probe { framework: gst::version_string().to_string(), encoders, faults }
}

fn unknown(pipelines: &Pipelines) -> impl Iterator<Item = PipelineFault> {
    let known: Vec<_> = Piece::all().map(|piece| piece.blueprint().file).collect();
    let strangers: Vec<_> = pipelines.own().filter(|file| !known.contains(file)).map(str::to_owned).collect();
    strangers.into_iter().map(move |file| {
        let reason = format!("no description has this name; there are {}", known.join(", "));
        PipelineFault { file, line: None, reason }
    })
}

fn try_encoder(pipelines: &Pipelines, encoder: Encoder) -> EncoderProbe {
    let failure = encode(pipelines, encoder).err();
    EncoderProbe { encoder, failure }
}

fn encode(pipelines: &Pipelines, encoder: Encoder) -> Result<(), String> {
    let pipeline = built(pipelines, Piece::Encoder(encoder))?;
    let frames = frames_of(&pipeline);
    stop("probe", &pipeline);
    match frames? {
        0 => Err("it encodes nothing".to_owned()),
        _ => Ok(()),
    }
}

fn frames_of(pipeline: &gst::Pipeline) -> Result<u64, String> {
    let sink: AppSink = named(pipeline, "video").map_err(|error| error.to_string())?;
    play("probe", pipeline).map_err(|error| error.to_string())?;
    let mut frames = 0;
    while sink.try_pull_sample(PATIENCE).is_some() {
        frames += 1;
    }
    let failed = pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
    match failed.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => Err(reason_of(error)),
        Some(_) | None => Ok(frames),
    }
}

/// What is wrong with the text of a piece.
fn fault(pipelines: &Pipelines, piece: Piece) -> Option<PipelineFault> {
    let blueprint = piece.blueprint();
    let text = pipelines.text(piece);
    let told = |line, mut reason: String| {
        if reason.starts_with("no element") {
            reason += PLUGINS;
        }
        Some(PipelineFault { file: blueprint.file.to_owned(), line, reason })
    };
    let known = |hole: &str| blueprint.holes.contains(&hole) || (piece == Piece::Programme && hole == "encoder");
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !is_comment(line)) {
        if let Some(hole) = holes_of(line).find(|hole| !known(hole)) {
            let names = blueprint.holes.join("}, {");
            return told(Some(number), format!("nothing fills {{{hole}}}; this file may ask for {{{names}}}"));
        }
    }
    match built(pipelines, piece) {
        Err(reason) => told(line_of(text, &reason), reason),
        Ok(pipeline) => {
            let missing = blueprint.names.iter().find(|name| pipeline.by_name(name).is_none());
            missing.and_then(|name| told(None, format!("no element of it has name={name}, and one is needed")))
        }
    }
}

fn built(pipelines: &Pipelines, piece: Piece) -> Result<gst::Pipeline, String> {
    let description = pipelines.filled(piece, &HOLES).map_err(|error| error.to_string())?;
    let whole = match piece {
        Piece::Encoder(_) => format!("{PICTURES}{description}{FRAMES}"),
        Piece::Programme
        | Piece::Recording
        | Piece::Decoder(_)
        | Piece::Canvas(_)
        | Piece::StemFile
        | Piece::Stem(_)
        | Piece::Thumbnails
        | Piece::Still
        | Piece::Preview => description,
    };
    launch(piece.blueprint().file, &whole).map_err(|error| match error {
        // The advice that stands in the whole message is given once, by whoever reads these.
        Error::Build { reason, .. } => reason,
        Error::Init(_) | Error::Pipeline { .. } | Error::FormatChanged | Error::Socket(_) | Error::Wire(_) => {
            error.to_string()
        }
    })
}

/// The line, from 1, that GStreamer complains about: it names elements, properties and values, but no lines.
fn line_of(text: &str, reason: &str) -> Option<u32> {
    let words: Vec<_> = reason
        .split(|char: char| char == '"' || char.is_whitespace())
        .map(|word| word.trim_end_matches(|char: char| char.is_ascii_digit() || char == ','))
        .filter(|word| word.len() > 2)
        .collect();
    let hits = |line: &str| words.iter().filter(|word| line.contains(**word)).count();
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !is_comment(line));
    let hit = lines.map(|(number, line)| (number, hits(line))).filter(|(_, hits)| *hits > 0);
    // Of equals the first.
    hit.min_by_key(|(_, hits)| std::cmp::Reverse(*hits)).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::media::Codec;

    fn with(file: &str, text: &str) -> Probe {
        gst::init().expect("GStreamer");
        probe(&Pipelines::new(Encoder::X264, BTreeMap::from([(file.to_owned(), text.to_owned())])))
    }

    #[test]
    fn what_we_bring_can_be_built_and_encodes() {
        gst::init().expect("GStreamer");
        let probe = probe(&Pipelines::default());
        assert_eq!(probe.faults, []);
        for encoder in [Encoder::X264, Encoder::OpenH264] {
            assert!(probe.encoders.contains(&EncoderProbe { encoder, failure: None }), "{probe:?}");
        }
    }

    #[test]
    fn a_broken_description_is_told_with_its_line_and_the_reason() {
        let opus = Pipelines::default().text(Piece::Decoder(Codec::Opus)).to_owned();
        for (line, good, bad, reason) in [
            (4, "opusdec", "opusdek", "no element \"opusdek\""),
            (4, "plc=", "fec=", "no property \"fec\""),
            (4, "plc=true", "plc=perhaps", "\"plc\""),
            (3, "rate=48000", "rate={pay_type}", "nothing fills {pay_type}"),
        ] {
            let probe = with("opus.txt", &opus.replace(good, bad));
            let [fault] = &probe.faults[..] else { panic!("{bad}: {probe:?}") };
            assert_eq!((fault.file.as_str(), fault.line), ("opus.txt", Some(line)), "{fault:?}");
            assert!(fault.reason.contains(reason), "{fault:?}");
        }
    }

    #[test]
    fn what_the_mixer_looks_up_may_not_be_missing() {
        let vp8 = Pipelines::default().text(Piece::Decoder(Codec::Vp8)).to_owned();
        let probe = with("vp8.txt", &vp8.replace("name=out", "name=exit"));
        assert!(probe.faults[0].reason.contains("name=out"), "{probe:?}");
    }

    #[test]
    fn a_file_that_nobody_asks_for_is_a_mistake() {
        let probe = with("vp88.txt", "");
        assert!(probe.faults[0].reason.contains("vp8.txt"), "{probe:?}");
    }

    #[test]
    fn an_operators_encoder_that_cannot_be_built_is_named() {
        let probe = with("encoder-x264.txt", "# ours\nx264enc name=encoder speed-preset=sloth\n ! h264parse");
        let [fault] = &probe.faults[..] else { panic!("{probe:?}") };
        assert_eq!((fault.file.as_str(), fault.line), ("encoder-x264.txt", Some(2)));
        let x264 = probe.encoders.iter().find(|tried| tried.encoder == Encoder::X264).expect("tried");
        assert!(x264.failure.is_some());
    }
}
