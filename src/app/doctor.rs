//! Whether this machine can broadcast: what the gateway looks at before it starts, and tells whoever asks.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use tokio_util::task::TaskTracker;
use tracing::info;
use tracing::warn;

use crate::config::Config;
use crate::domain::tier::Tiers;
use crate::driver::mixer::MixerProcesses;
use crate::model::encoder::Encoder;
use crate::proto::mixer::Probe;

/// The operator's own tiers, in the folder of descriptions.
const TIERS: &str = "tiers.toml";

/// Bytes of a file of tiers.
const MOST_TIERS: usize = 64 << 10;

/// The tiers of this installation.
///
/// # Errors
/// When the operator's cannot be used.
pub(super) fn tiers(folder: Option<&Path>) -> Result<Tiers> {
    let Some(path) = folder.map(|folder| folder.join(TIERS)).filter(|path| path.exists()) else {
        return Ok(Tiers::default());
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    ensure!(text.len() <= MOST_TIERS, "{} is longer than {MOST_TIERS} bytes", path.display());
    Tiers::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}

/// Mixers that have been tried, unless there are to be no broadcasts.
///
/// # Errors
/// When a description cannot be built or the chosen encoder does not work: no broadcast would begin.
pub(super) async fn mixers(config: &Config, recordings: &Path, tracker: &TaskTracker) -> Result<MixerProcesses> {
    let mixers = MixerProcesses::new(config.mixer.clone(), recordings.to_owned(), tracker.clone())?;
    if !config.streams.streaming_enabled {
        return Ok(mixers);
    }
    let encoder = config.mixer.encoder;
    match mixers.probe().await {
        Ok(probe) => {
            let wrong = wrongs(&probe, encoder);
            ensure!(wrong.is_empty(), "no broadcast can be made:\n  {}", wrong.join("\n  "));
            info!(framework = probe.framework, encoder = encoder.as_str(), "mixers can be started");
        }
        // A room without broadcasts is of use; each stream will say the same again.
        Err(error) => warn!(%error, "the mixer could not be tried"),
    }
    Ok(mixers)
}

/// Why no broadcast can be made, a sentence each.
fn wrongs(probe: &Probe, chosen: Encoder) -> Vec<String> {
    let mut wrongs: Vec<_> = probe
        .faults
        .iter()
        .map(|fault| match fault.line {
            Some(line) => format!("{}, line {line}: {}", fault.file, fault.reason),
            None => format!("{}: {}", fault.file, fault.reason),
        })
        .collect();
    let tried = probe.encoders.iter().find(|tried| tried.encoder == chosen);
    if let Some(reason) = tried.and_then(|tried| tried.failure.as_deref()) {
        wrongs.push(format!(
            "the encoder {} does not work here: {reason}; choose another as mixer.encoder, {}",
            chosen.as_str(),
            working(probe).join(", ")
        ));
    }
    wrongs
}

fn working(probe: &Probe) -> Vec<&'static str> {
    probe.encoders.iter().filter(|tried| tried.failure.is_none()).map(|tried| tried.encoder.as_str()).collect()
}

/// Prints what this machine can do; `false` if no broadcast can be made.
///
/// # Errors
/// When standard output cannot be written.
pub async fn doctor(config: Config) -> Result<bool> {
    let mut findings = Findings::default();
    match super::private_folder(&config.data.folder) {
        Ok(()) => findings.good(&format!("data folder {}", config.data.folder.display())),
        Err(error) => findings.bad(&format!("{error:#}")),
    }
    match tiers(config.mixer.pipelines.as_deref()) {
        Ok(tiers) => {
            let names: Vec<_> = tiers.all().iter().map(|tier| tier.name.as_str()).collect();
            findings.good(&format!("tiers {}", names.join(", ")));
        }
        Err(error) => findings.bad(&format!("{error:#}")),
    }
    let chosen = config.mixer.encoder;
    match ask_mixer(&config).await {
        Ok(probe) => findings.add_mixer(&probe, chosen),
        Err(error) => findings.bad(&format!("{error:#}")),
    }
    let verdict = if findings.troubles == 0 { "A broadcast can be made." } else { "No broadcast can be made." };
    super::print(&format!("{}\n{verdict}\n", findings.text))?;
    Ok(findings.troubles == 0)
}

async fn ask_mixer(config: &Config) -> Result<Probe> {
    let recordings = config.data.folder.join("recordings");
    let mixers = MixerProcesses::new(config.mixer.clone(), recordings, TaskTracker::new())?;
    mixers.probe().await.context("the mixer cannot be tried")
}

/// What was found, a line each.
#[derive(Default)]
struct Findings {
    text: String,
    troubles: usize,
}

impl Findings {
    fn good(&mut self, what: &str) {
        self.text += &format!("ok   {what}\n");
    }

    /// What this machine does not have and need not.
    fn missing(&mut self, what: &str) {
        self.text += &format!("-    {what}\n");
    }

    fn bad(&mut self, what: &str) {
        self.text += &format!("BAD  {what}\n");
        self.troubles += 1;
    }

    fn add_mixer(&mut self, probe: &Probe, chosen: Encoder) {
        self.good(&format!("mixer with {}", probe.framework));
        for tried in &probe.encoders {
            let name = tried.encoder.as_str();
            let role = if tried.encoder == chosen { " (in use)" } else { "" };
            match &tried.failure {
                None => self.good(&format!("encoder {name}{role}")),
                Some(reason) => self.missing(&format!("encoder {name}{role}: {reason}")),
            }
        }
        for wrong in wrongs(probe, chosen) {
            self.bad(&wrong);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mixer::EncoderProbe;
    use crate::proto::mixer::PipelineFault;

    fn probe(faults: Vec<PipelineFault>) -> Probe {
        let encoders = [(Encoder::X264, None), (Encoder::Nvenc, Some("no element \"nvh264enc\"".to_owned()))];
        let encoders = encoders.map(|(encoder, failure)| EncoderProbe { encoder, failure }).to_vec();
        Probe { framework: "GStreamer 1.22.0".to_owned(), encoders, faults }
    }

    #[test]
    fn an_encoder_that_nobody_chose_may_be_missing() {
        assert_eq!(wrongs(&probe(Vec::new()), Encoder::X264), [""; 0]);
        let wrongs = wrongs(&probe(Vec::new()), Encoder::Nvenc);
        assert!(wrongs[0].contains("nvenc") && wrongs[0].ends_with("x264"), "{wrongs:?}");
    }

    #[test]
    fn a_description_that_cannot_be_built_is_named_with_its_line() {
        let fault =
            PipelineFault { file: "vp8.txt".to_owned(), line: Some(7), reason: "no element \"vp8dec\"".to_owned() };
        let mut findings = Findings::default();
        findings.add_mixer(&probe(vec![fault]), Encoder::X264);
        assert_eq!(findings.troubles, 1);
        assert!(findings.text.contains("BAD  vp8.txt, line 7: no element \"vp8dec\"\n"), "{}", findings.text);
    }

    #[test]
    fn an_operators_tiers_replace_ours_and_a_mistake_names_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(tiers(Some(folder.path())).expect("ours"), Tiers::default());
        let write = |text| std::fs::write(folder.path().join(TIERS), text).expect("written");
        write("[[tier]]\nname = \"small\"\nwidth = 640\nheight = 360\nfps = 25\nvideo_kbps = 800\n");
        assert_eq!(tiers(Some(folder.path())).expect("theirs").all().len(), 1);
        write("[[tier]]\nname = 3\n");
        let error = format!("{:#}", tiers(Some(folder.path())).expect_err("a mistake"));
        assert!(error.contains("tiers.toml") && error.contains("line 2"), "{error}");
    }
}
