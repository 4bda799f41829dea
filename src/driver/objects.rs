//! An S3-compatible object store over HTTP/1.1: one connection for each request, which are large and few.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header;
use hyper_util::rt::TokioIo;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use crate::live::port::Dial;
use crate::live::port::ObjectError;
use crate::live::port::Objects;
use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::model::spec::RtmpEndpoint;
use crate::proto::s3;
use crate::proto::s3::Action;
use crate::proto::s3::Bucket;

/// The longest answer that is read.
const MOST_ANSWER: usize = 64 << 10;

/// Where recordings go when they have ended.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Without it nothing is uploaded.
    pub endpoint: Option<Url>,
    pub region: String,
    pub bucket: String,
    /// What every object's name begins with.
    pub prefix: String,
    pub access_key_id: String,
    pub secret_access_key: Option<SecretString>,
    /// A file that holds the secret and nothing else.
    pub secret_access_key_file: Option<PathBuf>,
    /// For one request: 8 MiB on the slowest uplink there is.
    pub request_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".to_owned(),
            bucket: String::new(),
            prefix: "jamcast/".to_owned(),
            access_key_id: String::new(),
            secret_access_key: None,
            secret_access_key_file: None,
            request_timeout_ms: 300_000,
        }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("uploads.endpoint must be an http or https URL with a host and no path")]
    Endpoint,
    #[error("uploads.bucket and uploads.access_key_id must be set when uploads.endpoint is")]
    Incomplete,
    #[error("uploads need secret_access_key or secret_access_key_file, one of the two")]
    Secret,
    #[error("uploads.secret_access_key_file cannot be read")]
    SecretFile(#[source] io::Error),
    #[error("uploads.prefix must have 200 characters at most")]
    Prefix,
}

impl Faulty for ConfigError {
    fn fault(&self) -> Fault {
        Fault::Internal
    }
}

/// A bucket, and how it is reached.
pub struct ObjectStore {
    bucket: Bucket,
    endpoint: RtmpEndpoint,
    dial: Arc<dyn Dial>,
    patience: Duration,
}

impl ObjectStore {
    /// The store of this configuration; `None` if there is none. The operator chose it, so `dial` may lead anywhere.
    ///
    /// # Errors
    /// When the configuration is not complete or its secret cannot be read.
    pub fn new(config: &Config, dial: Arc<dyn Dial>) -> Result<Option<Self>, ConfigError> {
        let Some(url) = &config.endpoint else { return Ok(None) };
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(ConfigError::Endpoint),
        };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(ConfigError::Endpoint);
        };
        if url.path() != "/" || url.query().is_some() || !url.username().is_empty() {
            return Err(ConfigError::Endpoint);
        }
        if config.bucket.is_empty() || config.access_key_id.is_empty() {
            return Err(ConfigError::Incomplete);
        }
        if config.prefix.len() > 200 {
            return Err(ConfigError::Prefix);
        }
        let secret_access_key = match (&config.secret_access_key, &config.secret_access_key_file) {
            (Some(secret), None) => secret.clone(),
            (None, Some(path)) => {
                std::fs::read_to_string(path).map_err(ConfigError::SecretFile)?.trim().to_owned().into()
            }
            (Some(_), Some(_)) | (None, None) => return Err(ConfigError::Secret),
        };
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let bucket = Bucket {
            authority,
            region: config.region.clone(),
            name: config.bucket.clone(),
            access_key_id: config.access_key_id.clone(),
            secret_access_key,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let endpoint = RtmpEndpoint { tls, host, port, app: String::new() };
        let patience = Duration::from_millis(config.request_timeout_ms);
        Ok(Some(Self { bucket, endpoint, dial, patience }))
    }

    /// Sends one request and reads its answer: the entity tag, if it has one, and the text.
    async fn ask(&self, action: Action<'_>, key: &str, body: Bytes) -> Result<(Option<String>, String), ObjectError> {
        let request = self.bucket.request(action, key, body, chrono::Utc::now());
        match tokio::time::timeout(self.patience, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(ObjectError::TimedOut),
        }
    }

    async fn exchange(&self, request: s3::Request) -> Result<(Option<String>, String), ObjectError> {
        let unreachable = |error: &dyn std::fmt::Display| ObjectError::Unreachable(error.to_string());
        let stream = self.dial.dial(&self.endpoint).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        let mut outgoing = hyper::Request::builder().method(request.method).uri(request.target);
        for (name, value) in request.headers {
            outgoing = outgoing.header(name, value);
        }
        let outgoing = outgoing.body(Full::new(request.body)).map_err(|error| unreachable(&error))?;
        let answering = async {
            let answer = sender.send_request(outgoing).await.map_err(|error| unreachable(&error))?;
            read(answer).await
        };
        tokio::pin!(answering, connection);
        tokio::select! {
            answer = &mut answering => answer,
            // It has nothing more to carry; what came is still to be read.
            _over = &mut connection => answering.await,
        }
    }
}

async fn read(answer: hyper::Response<Incoming>) -> Result<(Option<String>, String), ObjectError> {
    let (head, body) = answer.into_parts();
    let bytes = Limited::new(body, MOST_ANSWER).collect().await;
    let bytes = bytes.map_err(|error| ObjectError::Unreachable(error.to_string()))?.to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let code = s3::error_of(&text);
    if head.status == StatusCode::NOT_FOUND && code.as_deref() == Some("NoSuchUpload") {
        return Err(ObjectError::UploadGone);
    }
    if !head.status.is_success() || code.is_some() {
        let code = code.unwrap_or_else(|| "no reason given".to_owned());
        return Err(ObjectError::Refused { status: head.status.as_u16(), code });
    }
    let tag = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    Ok((tag.filter(|tag| s3::is_tag(tag)), text))
}

#[async_trait]
impl Objects for ObjectStore {
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        self.ask(Action::Put, key, body).await.map(drop)
    }

    async fn begin(&self, key: &str) -> Result<String, ObjectError> {
        let (_, answer) = self.ask(Action::Begin, key, Bytes::new()).await?;
        s3::upload_of(&answer).ok_or(ObjectError::Nonsense)
    }

    async fn part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> Result<String, ObjectError> {
        let (tag, _) = self.ask(Action::Part { upload, number }, key, body).await?;
        tag.ok_or(ObjectError::Nonsense)
    }

    async fn complete(&self, key: &str, upload: &str, tags: &[String]) -> Result<(), ObjectError> {
        self.ask(Action::Complete { upload, tags }, key, Bytes::new()).await.map(drop)
    }

    async fn abort(&self, key: &str, upload: &str) -> Result<(), ObjectError> {
        self.ask(Action::Abort { upload }, key, Bytes::new()).await.map(drop)
    }
}
