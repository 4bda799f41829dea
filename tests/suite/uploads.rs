//! Uploads to an object store: an S3 in this process that checks every signature, and fails, refuses and dawdles when told to.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::response::Response;
use chrono::NaiveDateTime;
use jamcast::driver::objects;
use jamcast::driver::objects::ObjectStore;
use jamcast::driver::publish;
use jamcast::driver::publish::Dialer;
use jamcast::driver::store::Db;
use jamcast::live::port::RecordingRow;
use jamcast::live::port::Store;
use jamcast::live::port::UploadRow;
use jamcast::live::port::UploadState;
use jamcast::live::upload::Uploader;
use jamcast::model::id::RecordingId;
use jamcast::model::id::StreamId;
use jamcast::proto::s3::Action;
use jamcast::proto::s3::Bucket;

const SECRET: &str = "canary-of-the-object-store";
const MIB: usize = 1 << 20;

/// What the store has, and how it behaves.
#[derive(Default)]
struct Shelves {
    authority: String,
    objects: HashMap<String, Vec<u8>>,
    uploads: HashMap<String, BTreeMap<u32, Vec<u8>>>,
    begun: u32,
    /// What was asked, one word each.
    asked: Vec<String>,
    /// The n-th request from now fails, for each of these.
    failing: Vec<usize>,
    dawdle: Duration,
}

type Shop = Arc<Mutex<Shelves>>;

fn open(shop: &Shop) -> MutexGuard<'_, Shelves> {
    shop.lock().expect("no panic")
}

fn refusal(status: StatusCode, code: &str) -> Response {
    (status, format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>no</Message></Error>"))
        .into_response()
}

async fn serve(State(shop): State<Shop>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let dawdle = open(&shop).dawdle;
    tokio::time::sleep(dawdle).await;
    let mut shelves = open(&shop);
    for count in &mut shelves.failing {
        *count -= 1;
    }
    let fails = shelves.failing.contains(&0);
    shelves.failing.retain(|count| *count > 0);
    if fails {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown");
    }
    let query: HashMap<String, String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let key = uri.path().strip_prefix("/takes/").expect("the bucket").to_owned();
    let upload = query.get("uploadId").cloned().unwrap_or_default();
    let tags: Vec<String> =
        shelves.uploads.get(&upload).iter().flat_map(|parts| parts.iter()).map(|(n, part)| tag(*n, part)).collect();
    let number = query.get("partNumber").map(|number| number.parse().expect("a number"));
    let action = match (method.as_str(), number, query.contains_key("uploads")) {
        ("PUT", Some(number), false) => Action::Part { upload: &upload, number },
        ("PUT", None, false) => Action::Put,
        ("POST", None, true) => Action::Begin,
        ("POST", None, false) => Action::Complete { upload: &upload, tags: &tags },
        ("DELETE", None, false) => Action::Abort { upload: &upload },
        other => panic!("{other:?}"),
    };
    if !is_signed(&shelves.authority, action, &key, &headers, &body) {
        return refusal(StatusCode::FORBIDDEN, "SignatureDoesNotMatch");
    }
    let known = upload.is_empty() || shelves.uploads.contains_key(&upload);
    if !known {
        return refusal(StatusCode::NOT_FOUND, "NoSuchUpload");
    }
    match action {
        Action::Put => {
            shelves.asked.push("put".into());
            shelves.objects.insert(key, body.to_vec());
            StatusCode::OK.into_response()
        }
        Action::Begin => {
            shelves.asked.push("begin".into());
            shelves.begun += 1;
            let id = format!("up-{}", shelves.begun);
            shelves.uploads.insert(id.clone(), BTreeMap::new());
            format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>")
                .into_response()
        }
        Action::Part { number, .. } => {
            shelves.asked.push(format!("part {number}"));
            let etag = tag(number, &body);
            shelves.uploads.get_mut(&upload).expect("known").insert(number, body.to_vec());
            [("etag", etag)].into_response()
        }
        Action::Complete { .. } => {
            shelves.asked.push("complete".into());
            let parts = shelves.uploads.remove(&upload).expect("known");
            shelves.objects.insert(key, parts.into_values().flatten().collect());
            "<CompleteMultipartUploadResult/>".into_response()
        }
        Action::Abort { .. } => {
            shelves.asked.push("abort".into());
            shelves.uploads.remove(&upload);
            StatusCode::NO_CONTENT.into_response()
        }
    }
}

fn tag(number: u32, part: &[u8]) -> String {
    format!("\"{number}-{}\"", part.len())
}

/// Whether the request is the one that the owner of the secret would have sent, its body and its list of parts included.
fn is_signed(authority: &str, action: Action<'_>, key: &str, headers: &HeaderMap, body: &Bytes) -> bool {
    let header = |name: &str| headers.get(name).expect("there").to_str().expect("text").to_owned();
    let date = NaiveDateTime::parse_from_str(&header("x-amz-date"), "%Y%m%dT%H%M%SZ").expect("a date").and_utc();
    let bucket = Bucket {
        authority: authority.to_owned(),
        region: "eu-test-1".into(),
        name: "takes".into(),
        access_key_id: "jamcast".into(),
        secret_access_key: SECRET.into(),
    };
    let expected = bucket.request(action, key, body.clone(), date);
    let signature = expected.headers.iter().find(|(name, _)| *name == "authorization").expect("signed");
    signature.1 == header("authorization") && expected.body == body
}

struct World {
    shop: Shop,
    store: Arc<Db>,
    folder: tempfile::TempDir,
    config: objects::Config,
}

impl World {
    async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let authority = listener.local_addr().expect("bound").to_string();
        let shop = Shop::default();
        open(&shop).authority.clone_from(&authority);
        let limit = axum::extract::DefaultBodyLimit::disable();
        let router = Router::new().fallback(serve).layer(limit).with_state(shop.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite:{}", folder.path().join("jamcast.db").display());
        let config = objects::Config {
            endpoint: Some(format!("http://{authority}").parse().expect("a URL")),
            region: "eu-test-1".into(),
            bucket: "takes".into(),
            access_key_id: "jamcast".into(),
            secret_access_key: Some(SECRET.into()),
            request_timeout_ms: 60_000,
            ..objects::Config::default()
        };
        Self { shop, store: Arc::new(Db::open(&url).await.expect("a database")), folder, config }
    }

    /// As after a start of the gateway.
    fn uploader(&self) -> Uploader {
        let dial = Dialer::new(publish::Config::default(), Arc::new(|_, _| true)).expect("TLS");
        let objects = ObjectStore::new(&self.config, Arc::new(dial)).expect("complete").expect("an endpoint");
        let folder: Arc<Path> = self.folder.path().into();
        Uploader { store: self.store.clone(), objects: Arc::new(objects), folder, prefix: "jam/".into() }
    }

    /// A recording of so many bytes that has ended, and its object's name.
    async fn recording(&self, length: usize) -> (RecordingId, String, Vec<u8>) {
        let (id, stream) = (RecordingId::generate(), StreamId::generate());
        let file = format!("{id}.mp4");
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        std::fs::write(self.folder.path().join(&file), &bytes).expect("written");
        let row = RecordingRow {
            id,
            stream,
            owner: "anna".parse().expect("a user"),
            room: "jam".parse().expect("a room name"),
            title: "Tonight".into(),
            part: 1,
            file: file.clone(),
            stem: None,
            created_at_ms: 1,
            zero_at_ms: None,
            ended_at_ms: Some(2),
            size_bytes: Some(i64::try_from(length).expect("small")),
            failure: None,
            kept: false,
        };
        self.store.create_recording(&row).await.expect("stored");
        (id, format!("jam/{stream}/{file}"), bytes)
    }

    async fn upload(&self, id: RecordingId) -> UploadRow {
        self.store.upload(id).await.expect("answers").expect("an upload")
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut open(&self.shop).asked)
    }
}

#[tokio::test]
async fn a_small_recording_goes_at_once_and_only_once() {
    let world = World::new().await;
    let (id, key, bytes) = world.recording(1000).await;
    let uploader = world.uploader();
    uploader.round(10).await.expect("looked");
    uploader.round(20).await.expect("looked");
    assert_eq!(world.asked(), ["put"]);
    assert_eq!(open(&world.shop).objects.get(&key), Some(&bytes));
    let upload = world.upload(id).await;
    assert_eq!((upload.state, upload.attempts, upload.sent_bytes), (UploadState::Done, 1, 1000));
    assert_eq!((upload.key, upload.error), (key, None));
}

#[tokio::test]
async fn a_store_that_fails_twice_gets_the_rest_later_and_nothing_twice_even_after_a_restart() {
    let world = World::new().await;
    let (id, key, bytes) = world.recording(20 * MIB).await;
    // Beginning and part 1 go well, part 2 does not.
    open(&world.shop).failing = vec![3];
    world.uploader().round(0).await.expect("looked");
    assert_eq!(world.asked(), ["begin", "part 1"]);
    let waiting = world.upload(id).await;
    assert_eq!((waiting.state, waiting.attempts, waiting.next_at_ms), (UploadState::Waiting, 1, 5_000));
    assert_eq!(waiting.sent_bytes, 8 * MIB as i64);
    assert!(waiting.error.is_some_and(|error| error.contains("503") && error.contains("SlowDown")));
    assert_eq!(world.store.unfinished_uploads().await.expect("answers"), [id]);

    let after_restart = world.uploader();
    after_restart.round(4_999).await.expect("looked");
    assert_eq!(world.asked(), Vec::<String>::new(), "it is not its turn yet");
    open(&world.shop).failing = vec![3];
    after_restart.round(5_000).await.expect("looked");
    assert_eq!(world.asked(), ["part 2", "part 3"]);
    assert_eq!(world.upload(id).await.next_at_ms, 15_000);
    world.uploader().round(15_000).await.expect("looked");
    assert_eq!(world.asked(), ["complete"]);
    assert!(open(&world.shop).objects.get(&key) == Some(&bytes), "every byte is there, in order");
    assert_eq!(world.upload(id).await.state, UploadState::Done);
    assert_eq!(world.store.unfinished_uploads().await.expect("answers"), []);
}

#[tokio::test]
async fn parts_that_the_store_has_forgotten_are_sent_again() {
    let world = World::new().await;
    let (id, key, bytes) = world.recording(9 * MIB).await;
    open(&world.shop).failing = vec![3];
    world.uploader().round(0).await.expect("looked");
    open(&world.shop).uploads.clear();
    world.uploader().round(10_000).await.expect("looked");
    assert!(world.upload(id).await.error.is_some_and(|error| error.contains("forgotten")));
    world.asked();
    world.uploader().round(100_000).await.expect("looked");
    assert_eq!(world.asked(), ["begin", "part 1", "part 2", "complete"]);
    assert!(open(&world.shop).objects.get(&key) == Some(&bytes));
}

#[tokio::test]
async fn wrong_credentials_are_told_without_them_and_given_up_after_half_a_day() {
    let mut world = World::new().await;
    world.config.secret_access_key = Some("canary-that-is-wrong".into());
    let (id, ..) = world.recording(9 * MIB).await;
    world.uploader().round(0).await.expect("looked");
    let upload = world.upload(id).await;
    let error = upload.error.clone().expect("a reason");
    assert!(error.contains("403") && error.contains("SignatureDoesNotMatch"), "{error}");
    let told = format!("{upload:?} {:?}", world.config);
    assert!(!told.contains("canary"), "{told}");
    let mut now = 0;
    while world.upload(id).await.state == UploadState::Waiting {
        now = world.upload(id).await.next_at_ms;
        world.uploader().round(now).await.expect("looked");
    }
    assert!((11..14).contains(&(now / 3_600_000)), "{now} ms");
    let failed = world.upload(id).await;
    assert_eq!((failed.state, failed.error), (UploadState::Failed, Some(error)));
    world.uploader().round(now * 2).await.expect("looked");
    assert_eq!(world.upload(id).await.attempts, failed.attempts, "nobody asked for more");
}

#[tokio::test]
async fn a_store_that_dawdles_is_left_and_tried_again() {
    let mut world = World::new().await;
    let (id, key, _) = world.recording(1000).await;
    open(&world.shop).dawdle = Duration::from_secs(60);
    world.config.request_timeout_ms = 100;
    world.uploader().round(0).await.expect("looked");
    assert!(world.upload(id).await.error.is_some_and(|error| error.contains("in time")));
    open(&world.shop).dawdle = Duration::from_millis(50);
    world.config.request_timeout_ms = 60_000;
    world.uploader().round(5_000).await.expect("looked");
    assert!(open(&world.shop).objects.contains_key(&key));
}

#[tokio::test]
async fn a_store_that_is_not_there_and_a_file_that_is_gone_are_told_apart() {
    let mut world = World::new().await;
    let (kept, ..) = world.recording(10).await;
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let endpoint = world.config.endpoint.replace(format!("http://{nowhere}").parse().expect("a URL"));
    world.uploader().round(0).await.expect("looked");
    assert!(world.upload(kept).await.error.is_some_and(|error| error.contains("cannot be reached")));
    world.config.endpoint = endpoint;
    let (gone, ..) = world.recording(10).await;
    std::fs::remove_file(world.folder.path().join(format!("{gone}.mp4"))).expect("it was there");
    world.uploader().round(5_000).await.expect("looked");
    assert_eq!(world.upload(kept).await.state, UploadState::Done);
    let failed = world.upload(gone).await;
    assert_eq!(failed.state, UploadState::Failed);
    assert!(failed.error.is_some_and(|error| error.contains("cannot be read")));
}

#[test]
fn a_configuration_that_is_not_complete_is_refused() {
    let dial = || Arc::new(Dialer::new(publish::Config::default(), Arc::new(|_, _| true)).expect("TLS"));
    let open = |config: &objects::Config| ObjectStore::new(config, dial());
    assert!(open(&objects::Config::default()).expect("nothing is wrong with none").is_none());
    let whole = objects::Config {
        endpoint: Some("https://s3.example".parse().expect("a URL")),
        bucket: "b".into(),
        access_key_id: "a".into(),
        secret_access_key: Some("s".into()),
        ..objects::Config::default()
    };
    assert!(open(&whole).expect("complete").is_some());
    let endpoint = |url: &str| Some(url.parse().expect("a URL"));
    for broken in [
        objects::Config { endpoint: endpoint("ftp://s3.example"), ..whole.clone() },
        objects::Config { endpoint: endpoint("https://s3.example/path"), ..whole.clone() },
        objects::Config { bucket: String::new(), ..whole.clone() },
        objects::Config { secret_access_key: None, ..whole.clone() },
        objects::Config { secret_access_key_file: Some("/there/is/none".into()), ..whole.clone() },
        objects::Config { secret_access_key: None, secret_access_key_file: Some("/there/is/none".into()), ..whole },
    ] {
        assert!(open(&broken).is_err(), "{broken:?}");
    }
}
