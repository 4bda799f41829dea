//! The configuration: embedded defaults, then a file, then the environment. Each part is defined beside the code it steers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

use config::Environment;
use config::File;
use config::FileFormat;
use secrecy::SecretString;
use serde::Deserialize;

use crate::domain::policy::HostRule;
use crate::driver;
use crate::live;
use crate::telemetry;
use crate::web;

/// The manual of every key, and its default.
pub const DEFAULT: &str = include_str!("../config/default.toml");

/// Keys whose value in the environment is a list with commas.
const LISTS: &[&str] =
    &["publish.allowed_hosts", "http.trusted_proxies", "rtc.announced_ips", "http.ws.allowed_origins"];

/// The names from before there was a configuration file, and the key each sets. They win over everything else.
const FLAT_NAMES: &[(&str, &str)] = &[
    ("STREAMING_ENABLED", "streams.streaming_enabled"),
    ("MAX_CONCURRENT_STREAMS", "streams.max_concurrent_streams"),
    ("STREAM_TIMEOUT", "streams.stream_timeout_ms"),
    ("FFMPEG_PATH", "tools.ffmpeg_path"),
    ("JWT_SECRET", "auth.jwt_secret"),
    ("JWT_SECRET_PREVIOUS", "auth.jwt_secret_previous"),
    ("RATE_LIMIT_WINDOW", "http.limits.window_ms"),
    ("RATE_LIMIT_MAX", "http.limits.max"),
    ("LOG_LEVEL", "log.level"),
    ("METRICS_ENABLED", "http.metrics_enabled"),
    ("DATABASE_URL", "data.database_url"),
    ("TURN_SECRET", "http.turn.secret"),
];

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub data: Data,
    pub auth: Auth,
    pub demo: Demo,
    #[serde(default)]
    pub tools: Tools,
    pub http: web::config::Config,
    pub rtc: driver::rtc::Config,
    pub mixer: driver::mixer::Config,
    pub streams: live::registry::Config,
    pub recordings: live::recordings::Config,
    pub uploads: driver::objects::Config,
    pub publish: Publish,
    pub ingest: driver::ingest::Config,
    pub log: telemetry::Config,
}

/// Where the gateway listens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    pub folder: PathBuf,
    #[serde(default)]
    pub database_url: Option<SecretString>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    #[serde(default)]
    pub jwt_secret: Option<SecretString>,
    #[serde(default)]
    pub jwt_secret_previous: Option<SecretString>,
    #[serde(default)]
    pub master_keys: Option<SecretString>,
}

/// What a first run finds: a room, and an ingest on this machine to send to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demo {
    pub enabled: bool,
    pub ingest_listen: SocketAddr,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    #[serde(default)]
    pub ffmpeg_path: Option<PathBuf>,
}

/// Sending to destinations.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    pub allowed_hosts: Vec<HostRule>,
    pub dial: driver::publish::Config,
}

/// The configuration cannot be used; the message names the key and the reason.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used: {0}")]
pub struct ConfigError(String);

impl Config {
    /// Loads the defaults, the file if one is given, and the environment.
    ///
    /// # Errors
    /// A file that cannot be read, a key that does not exist, or a value of the wrong kind or range.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::from_sources(file, std::env::vars().collect())
    }

    fn from_sources(file: Option<&Path>, environment: HashMap<String, String>) -> Result<Self, ConfigError> {
        let mut sources = config::Config::builder().add_source(File::from_str(DEFAULT, FileFormat::Toml));
        if let Some(path) = file {
            sources = sources.add_source(File::from(path).format(FileFormat::Toml));
        }
        for (name, key) in FLAT_NAMES {
            // An empty value is how compose files and shells leave a variable out.
            if let Some(value) = environment.get(*name).filter(|value| !value.is_empty()) {
                sources = sources
                    .set_override(*key, value.as_str())
                    .map_err(|error| ConfigError(format!("{name}: {error}")))?;
            }
        }
        let mut nested = Environment::with_prefix("JAMCAST")
            .prefix_separator("__")
            .separator("__")
            .ignore_empty(true)
            .try_parsing(true)
            .list_separator(",")
            .source(Some(environment));
        for key in LISTS {
            nested = nested.with_list_parse_key(key);
        }
        let loaded = sources.add_source(nested).build().map_err(|error| ConfigError(error.to_string()))?;
        let config: Self = loaded.try_deserialize().map_err(|error| ConfigError(error.to_string()))?;
        match config.http.complaint() {
            None => Ok(config),
            Some(complaint) => Err(ConfigError(complaint)),
        }
    }

    /// The database: the configured one, or SQLite in the data folder.
    pub fn database_url(&self) -> SecretString {
        let in_folder = || format!("sqlite:{}", self.data.folder.join("jamcast.db").display()).into();
        self.data.database_url.clone().unwrap_or_else(in_folder)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::from_sources(None, environment)
    }

    #[test]
    fn the_embedded_defaults_are_a_whole_configuration() {
        let config = load(&[]).expect("the defaults can be used");
        assert!(config.database_url().expose_secret().starts_with("sqlite:"));
    }

    #[test]
    fn the_flat_names_keep_working() {
        let config = load(&[
            ("MAX_CONCURRENT_STREAMS", "3"),
            ("STREAM_TIMEOUT", "60000"),
            ("STREAMING_ENABLED", "false"),
            ("RATE_LIMIT_WINDOW", "1000"),
            ("RATE_LIMIT_MAX", "2"),
            ("METRICS_ENABLED", "false"),
            ("LOG_LEVEL", "debug"),
            ("FFMPEG_PATH", "/opt/ffmpeg"),
            ("JWT_SECRET", "canary-canary-canary-canary-canary"),
            ("TURN_SECRET", "12345-canary"),
        ])
        .expect("these can be used");
        assert_eq!(config.streams.max_concurrent_streams, 3);
        assert_eq!(config.streams.stream_timeout_ms, 60_000);
        assert!(!config.streams.streaming_enabled);
        assert_eq!((config.http.limits.window_ms, config.http.limits.max), (1000, 2));
        assert!(!config.http.metrics_enabled);
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.tools.ffmpeg_path.as_deref(), Some(Path::new("/opt/ffmpeg")));
        assert!(config.http.turn.secret.is_some());
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn nested_names_reach_every_part_and_lists_have_commas() {
        let config = load(&[
            ("JAMCAST__SERVER__LISTEN", "127.0.0.1:0"),
            ("JAMCAST__PUBLISH__ALLOWED_HOSTS", "localhost,127.0.0.1"),
            ("JAMCAST__RTC__UDP_PORT", "0"),
        ])
        .expect("these can be used");
        assert_eq!(config.server.listen.port(), 0);
        assert_eq!(config.publish.allowed_hosts.len(), 2);
    }

    /// Names and values of the variables that the Dockerfile and the compose file set, with something for those they demand.
    fn variables_of_the_container() -> Vec<(String, String)> {
        let dockerfile = include_str!("../Dockerfile").split_once("ENV ").expect("ENV").1;
        let dockerfile =
            dockerfile.split_once("EXPOSE").expect("EXPOSE").0.lines().filter_map(|line| line.split_once('='));
        let compose = include_str!("../docker-compose.yml").split_once("environment:\n").expect("environment").1;
        let compose =
            compose.split_once("    ports:").expect("ports").0.lines().filter_map(|line| line.split_once(": "));
        let value = |text: &str| {
            let text = text.trim().trim_end_matches('\\').trim().trim_matches('"');
            match text.strip_prefix("${").and_then(|inner| inner.strip_suffix('}')) {
                Some(inner) => match inner.split_once(":-") {
                    Some((_, default)) => default.to_owned(),
                    None if inner.starts_with("PUBLIC_IP:?") => "192.0.2.1".to_owned(),
                    None => "x".repeat(32),
                },
                None => text.to_owned(),
            }
        };
        dockerfile.chain(compose).map(|(name, text)| (name.trim().to_owned(), value(text))).collect()
    }

    #[test]
    fn the_container_sets_variables_that_exist() {
        let foreign = ["MALLOC_ARENA_MAX", "XDG_CACHE_HOME"];
        let variables: Vec<_> =
            variables_of_the_container().into_iter().filter(|(name, _)| !foreign.contains(&name.as_str())).collect();
        for (name, _) in &variables {
            let known = name.starts_with("JAMCAST__") || FLAT_NAMES.iter().any(|(flat, _)| flat == name);
            assert!(known, "{name} is no variable of ours");
        }
        let borrowed: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let config = load(&borrowed).expect("the container starts");
        assert!(!config.demo.enabled && config.server.listen.ip().is_unspecified());
        // Every worker has a UDP port, and the compose file publishes as many.
        assert!(include_str!("../docker-compose.yml").contains("40000-40007:40000-40007/udp"));
        assert!(
            borrowed.contains(&("JAMCAST__RTC__WORKERS", "8"))
                && borrowed.contains(&("JAMCAST__RTC__UDP_PORT", "40000"))
        );
    }

    #[test]
    fn ci_runs_the_script_that_everybody_runs() {
        assert!(include_str!("../.github/workflows/ci.yml").contains("run: .ci/run"));
        assert!(include_str!("../.ci/run").contains("/../scripts/test\""));
    }

    #[test]
    fn mistakes_are_named() {
        let wrong_kind = load(&[("MAX_CONCURRENT_STREAMS", "many")]).expect_err("a word is no number").to_string();
        assert!(wrong_kind.contains("max_concurrent_streams"), "{wrong_kind}");
        let unknown = load(&[("JAMCAST__SERVER__LISTENN", "127.0.0.1:0")]).expect_err("no such key").to_string();
        assert!(unknown.contains("listenn"), "{unknown}");
    }
}
