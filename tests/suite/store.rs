//! Every row on SQLite, and on PostgreSQL when JAMCAST_TEST_POSTGRES names one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jamcast::driver::store::Db;
use jamcast::driver::vault::Keyring;
use jamcast::live::port::BackupRow;
use jamcast::live::port::DestinationRow;
use jamcast::live::port::MarkerRow;
use jamcast::live::port::Page;
use jamcast::live::port::RecordingRow;
use jamcast::live::port::RoomRow;
use jamcast::live::port::SealedKey;
use jamcast::live::port::StateChange;
use jamcast::live::port::StemRow;
use jamcast::live::port::Store;
use jamcast::live::port::StoreError;
use jamcast::live::port::StreamRow;
use jamcast::live::port::Vault;
use jamcast::live::snapshot::DestinationSnapshot;
use jamcast::live::snapshot::DestinationState;
use jamcast::live::snapshot::Outcome;
use jamcast::live::snapshot::StreamState;
use jamcast::live::snapshot::StreamStats;
use jamcast::model::fault::Fault;
use jamcast::model::fault::Faulty;
use jamcast::model::id::DestinationId;
use jamcast::model::id::MarkerId;
use jamcast::model::id::RecordingId;
use jamcast::model::id::RoomId;
use jamcast::model::id::StreamId;
use jamcast::model::id::UserId;
use jamcast::model::media::MediaKind;
use jamcast::model::secret::StreamKey;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::model::spec::RtmpEndpoint;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::SqliteConnection;
use url::Url;

/// Runs a test on an empty SQLite file, and on an empty PostgreSQL database if there is a server.
async fn on_every_database(test: impl AsyncFn(&Db)) {
    let folder = tempfile::tempdir().expect("a folder");
    let db = Db::open(&sqlite_url(&folder.path().join("jamcast.db"))).await.expect("opens");
    test(&db).await;
    db.close().await;
    if let Ok(server) = std::env::var("JAMCAST_TEST_POSTGRES") {
        let db = Db::open(&empty_postgres(&server).await).await.expect("opens");
        test(&db).await;
        db.close().await;
    }
}

fn sqlite_url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

async fn empty_postgres(server: &str) -> String {
    let name = format!("jamcast_{}", uuid::Uuid::now_v7().simple());
    let mut connection = PgConnection::connect(server).await.expect("JAMCAST_TEST_POSTGRES answers");
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.expect("created");
    connection.close().await.expect("closes");
    let mut url = Url::parse(server).expect("a URL");
    url.set_path(&name);
    url.into()
}

fn user(name: &str) -> UserId {
    name.parse().expect("well formed")
}

fn page(limit: u32) -> Page {
    Page { limit, before: None }
}

fn room(slug: &str, owner: &str, created_at_ms: i64) -> RoomRow {
    let id: RoomId = slug.parse().expect("a slug");
    RoomRow { id, owner: user(owner), title: format!("{slug}'s \"night\"; DROP TABLE rooms; -- 🎸"), created_at_ms }
}

fn destination(owner: &str, created_at_ms: i64) -> DestinationRow {
    DestinationRow {
        id: DestinationId::generate(),
        owner: user(owner),
        room: None,
        name: "Our channel".into(),
        platform: "youtube".into(),
        endpoint: RtmpEndpoint { tls: true, host: "a.example".into(), port: 65535, app: "live2?backup=1".into() },
        primary: owner == "ann",
        sealed_key: SealedKey(vec![0, 255, 1, 0, b'\'', 0]),
        key_hint: "••••3a".into(),
        backup: (owner == "ann").then(|| BackupRow {
            endpoint: RtmpEndpoint { tls: true, host: "b.example".into(), port: 443, app: "live2?backup=1".into() },
            sealed_key: Some(SealedKey(vec![1, 0, 2])),
        }),
        created_at_ms,
    }
}

fn stream(owner: &str, created_at_ms: i64) -> StreamRow {
    StreamRow {
        id: StreamId::generate(),
        owner: user(owner),
        room: "jam".parse().expect("a slug"),
        title: "Friday".into(),
        programme: ProgrammeSpec { fps: 60, ..ProgrammeSpec::default() },
        destinations: vec![DestinationId::generate(), DestinationId::generate()],
        record: true,
        stems: false,
        hls: false,
        idempotency_key: None,
        state: StreamState::Created,
        reason: None,
        created_at_ms,
        started_at_ms: None,
        ended_at_ms: None,
        outcome: None,
    }
}

fn outcome() -> Outcome {
    let sent_to = DestinationSnapshot {
        id: DestinationId::generate(),
        name: "Our channel".into(),
        platform: "youtube".into(),
        url: "rtmps://a.example/live2".into(),
        primary: true,
        on_backup: true,
        state: DestinationState::Stopped,
        hint: Some("it's \"over\"".into()),
        retry_in_ms: None,
        first_video_ms: Some(812),
        reconnects: 3,
        bytes_sent: u64::MAX >> 11,
        bytes_acknowledged: Some(7),
        frames_sent: 9,
        dropped_frames: 1,
        queue_ms: 0,
    };
    Outcome {
        stats: StreamStats { fps: 29.97, video_frames: 900, ..StreamStats::default() },
        destinations: vec![sent_to],
    }
}

fn recording(of: &StreamRow, part: u32, created_at_ms: i64) -> RecordingRow {
    RecordingRow {
        id: RecordingId::generate(),
        stream: of.id,
        owner: of.owner.clone(),
        room: of.room.clone(),
        title: of.title.clone(),
        part,
        file: format!("{}-{part}.mp4", of.id),
        created_at_ms,
        ended_at_ms: None,
        size_bytes: None,
        failure: None,
        stem: None,
        zero_at_ms: None,
        kept: false,
    }
}

#[tokio::test]
async fn a_room_is_kept_and_its_name_is_taken_once() {
    on_every_database(async |db| {
        let jam = room("jam", "ann", 1_800_000_000_000);
        db.create_room(&jam).await.expect("created");
        assert_eq!(db.room(&jam.id).await.expect("answers"), Some(jam.clone()));
        let again = db.create_room(&room("jam", "bob", 1)).await.expect_err("taken");
        assert!(matches!(again, StoreError::Conflict) && again.fault() == Fault::Client);
        assert_eq!(db.room(&jam.id).await.expect("answers").expect("kept").owner, user("ann"));
        assert_eq!(db.room(&"nowhere".parse().expect("a slug")).await.expect("answers"), None);
    })
    .await;
}

#[tokio::test]
async fn a_destination_is_kept_its_key_replaced_and_it_goes() {
    on_every_database(async |db| {
        let mine = DestinationRow { room: Some("jam".parse().expect("a slug")), ..destination("ann", 1) };
        let other = destination("ann", 2);
        db.create_destination(&mine).await.expect("created");
        db.create_destination(&other).await.expect("created");
        assert_eq!(db.destination(mine.id).await.expect("answers"), Some(mine.clone()));

        let sealed = SealedKey(vec![9; 64]);
        assert!(db.rotate_key(mine.id, &sealed, "••••zz").await.expect("answers"));
        let rotated = DestinationRow { sealed_key: sealed.clone(), key_hint: "••••zz".into(), ..mine.clone() };
        assert_eq!(db.destination(mine.id).await.expect("answers"), Some(rotated));
        assert_eq!(db.destination(other.id).await.expect("answers"), Some(other.clone()), "the other one is untouched");

        assert!(db.set_primary(mine.id, false).await.expect("answers"));
        assert!(!db.destination(mine.id).await.expect("answers").expect("kept").primary);
        assert!(db.destination(other.id).await.expect("answers").expect("kept").primary, "the other one is untouched");

        assert!(db.delete_destination(mine.id).await.expect("answers"));
        assert!(!db.set_primary(mine.id, true).await.expect("answers"));
        assert!(!db.delete_destination(mine.id).await.expect("answers"));
        assert!(!db.rotate_key(mine.id, &sealed, "").await.expect("answers"));
        assert_eq!(db.destination(mine.id).await.expect("answers"), None);
        assert_eq!(db.destinations(None, page(10)).await.expect("answers"), [other]);
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_kept_with_everything_it_was_asked_to_be() {
    on_every_database(async |db| {
        for state in [
            StreamState::Created,
            StreamState::Starting,
            StreamState::Live,
            StreamState::Stopping,
            StreamState::Ended,
            StreamState::Failed,
        ] {
            let plain = StreamRow { state, ..stream("ann", 5) };
            let full = StreamRow {
                idempotency_key: Some(format!("key of {state:?}")),
                reason: Some("the mixer ended".into()),
                started_at_ms: Some(6),
                ended_at_ms: Some(i64::MAX),
                destinations: vec![],
                record: false,
                stems: true,
                hls: true,
                outcome: Some(outcome()),
                ..stream("ann", 5)
            };
            for row in [plain, full] {
                db.create_stream(&row).await.expect("created");
                assert_eq!(db.stream(row.id).await.expect("answers"), Some(row));
            }
        }
        assert_eq!(db.stream(StreamId::generate()).await.expect("answers"), None);
    })
    .await;
}

#[tokio::test]
async fn a_stream_moves_on_and_keeps_the_times_it_has() {
    on_every_database(async |db| {
        let [row, other] = [stream("ann", 5), stream("ann", 5)];
        db.create_stream(&row).await.expect("created");
        db.create_stream(&other).await.expect("created");
        let live = StateChange { state: StreamState::Live, reason: None, started_at_ms: Some(10), ended_at_ms: None };
        db.set_stream_state(row.id, &live).await.expect("set");
        let failed = StateChange {
            state: StreamState::Failed,
            reason: Some("the mixer ended".into()),
            started_at_ms: None,
            ended_at_ms: Some(20),
        };
        db.set_stream_state(row.id, &failed).await.expect("set");
        let expected = StreamRow {
            state: StreamState::Failed,
            reason: Some("the mixer ended".into()),
            started_at_ms: Some(10),
            ended_at_ms: Some(20),
            ..row.clone()
        };
        assert_eq!(db.stream(row.id).await.expect("answers"), Some(expected));
        assert_eq!(db.stream(other.id).await.expect("answers"), Some(other));
        let outcome = outcome();
        db.set_stream_outcome(row.id, &outcome).await.expect("set");
        assert_eq!(db.stream(row.id).await.expect("answers").expect("kept").outcome, Some(outcome));
        db.set_stream_state(StreamId::generate(), &live).await.expect("a stream that was deleted is no error");
    })
    .await;
}

#[tokio::test]
async fn an_idempotency_key_makes_one_stream_per_owner() {
    on_every_database(async |db| {
        let keyed = |owner| StreamRow { idempotency_key: Some("tuesday".into()), ..stream(owner, 5) };
        let first = keyed("ann");
        db.create_stream(&first).await.expect("created");
        assert!(matches!(db.create_stream(&keyed("ann")).await, Err(StoreError::Conflict)));
        db.create_stream(&keyed("bob")).await.expect("another owner's key is another key");
        for _ in 0..2 {
            db.create_stream(&stream("ann", 5)).await.expect("streams without a key never meet");
        }
        let found = db.stream_by_idempotency_key(&user("ann"), "tuesday").await.expect("answers");
        assert_eq!(found, Some(first));
        assert_eq!(db.stream_by_idempotency_key(&user("ann"), "wednesday").await.expect("answers"), None);
        assert_eq!(db.stream_by_idempotency_key(&user("cy"), "tuesday").await.expect("answers"), None);
    })
    .await;
}

#[tokio::test]
async fn requests_that_race_with_one_key_make_one_stream() {
    on_every_database(async |db| {
        let racers = (0..24).map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                let row = StreamRow { idempotency_key: Some("once".into()), ..stream("ann", 5) };
                let made = db.create_stream(&row).await;
                let found = db.stream_by_idempotency_key(&row.owner, "once").await.expect("answers").expect("made");
                (made, row.id == found.id)
            })
        });
        let mut winners = 0;
        for racer in futures::future::join_all(racers).await {
            match racer.expect("no panic") {
                (Ok(()), true) => winners += 1,
                (Err(StoreError::Conflict), false) => {}
                (made, found) => panic!("{made:?}, its own row found: {found}"),
            }
        }
        assert_eq!(winners, 1);
    })
    .await;
}

#[tokio::test]
async fn writers_and_readers_do_not_get_into_each_others_way() {
    on_every_database(async |db| {
        let writers = (0..40).map(|n| {
            let db = db.clone();
            tokio::spawn(async move {
                db.create_destination(&destination("ann", n)).await.expect("created");
                db.destinations(None, page(200)).await.expect("answers").len()
            })
        });
        for seen in futures::future::join_all(writers).await {
            assert!(seen.expect("no panic") >= 1, "a write is seen by the next read");
        }
        assert_eq!(db.destinations(None, page(200)).await.expect("answers").len(), 40);
    })
    .await;
}

#[tokio::test]
async fn a_recording_outlives_its_stream() {
    on_every_database(async |db| {
        let of = stream("ann", 5);
        db.create_stream(&of).await.expect("created");
        let first = recording(&of, 1, 10);
        let stem = Some(StemRow { musician: "Ann (screen)".into(), media: MediaKind::Video });
        let second = RecordingRow { stem, kept: true, ..recording(&of, 2, 20) };
        db.create_recording(&first).await.expect("created");
        db.create_recording(&second).await.expect("created");
        assert_eq!(db.recording(first.id).await.expect("answers"), Some(first.clone()));
        db.set_recording_zero(first.id, 11).await.expect("set");
        db.finish_recording(first.id, 15, 5_000_000_000, None).await.expect("finished");
        db.finish_recording(second.id, 25, 0, Some("the disk is full")).await.expect("finished");

        assert!(db.delete_stream(of.id).await.expect("answers"));
        assert!(!db.delete_stream(of.id).await.expect("answers"));
        assert_eq!(db.stream(of.id).await.expect("answers"), None);

        let first =
            RecordingRow { zero_at_ms: Some(11), ended_at_ms: Some(15), size_bytes: Some(5_000_000_000), ..first };
        let second = RecordingRow {
            ended_at_ms: Some(25),
            size_bytes: Some(0),
            failure: Some("the disk is full".into()),
            ..second
        };
        assert_eq!(db.recordings(Some(&of.owner), page(10)).await.expect("answers"), [second, first]);
    })
    .await;
}

#[tokio::test]
async fn markers_are_in_order_and_outlive_their_stream() {
    on_every_database(async |db| {
        let of = stream("ann", 5);
        db.create_stream(&of).await.expect("created");
        let marker =
            |label: &str, at_ms| MarkerRow { id: MarkerId::generate(), stream: of.id, label: label.into(), at_ms };
        let [late, early] = [marker("夜 \"2\"", 20), marker("one", 10)];
        for marker in [&late, &early] {
            db.create_marker(marker).await.expect("created");
        }
        let other = StreamId::generate();
        assert_eq!(db.markers(other).await.expect("answers"), []);
        assert!(!db.delete_marker(other, late.id).await.expect("answers"), "of another stream");
        db.delete_stream(of.id).await.expect("answers");
        assert_eq!(db.markers(of.id).await.expect("answers"), [early.clone(), late.clone()]);
        assert!(db.delete_marker(of.id, late.id).await.expect("answers"));
        assert_eq!(db.markers(of.id).await.expect("answers"), [early]);
    })
    .await;
}

#[tokio::test]
async fn a_recording_is_kept_and_deleted() {
    on_every_database(async |db| {
        let row = recording(&stream("ann", 5), 1, 10);
        db.create_recording(&row).await.expect("created");
        assert!(db.set_recording_kept(row.id, true).await.expect("answers"));
        assert!(db.recording(row.id).await.expect("answers").is_some_and(|row| row.kept));
        assert!(db.delete_recording(row.id).await.expect("answers"));
        assert!(!db.delete_recording(row.id).await.expect("answers"));
        assert!(!db.set_recording_kept(row.id, true).await.expect("answers"));
        assert_eq!(db.recording(row.id).await.expect("answers"), None);
    })
    .await;
}

/// Walks through a list page by page and returns every (time, id) it saw.
async fn walk(limit: u32, list: impl AsyncFn(Page) -> Vec<(i64, String)>) -> Vec<(i64, String)> {
    let mut seen: Vec<(i64, String)> = Vec::new();
    // More pages than any list here has.
    for _ in 0..100 {
        let rows = list(Page { limit, before: seen.last().cloned() }).await;
        assert!(rows.len() <= limit as usize);
        if rows.is_empty() {
            return seen;
        }
        seen.extend(rows);
    }
    panic!("the list does not end");
}

#[tokio::test]
async fn pages_show_every_row_once_newest_first() {
    on_every_database(async |db| {
        let of = stream("ann", 0);
        for n in 0..23 {
            let owner = if n % 3 == 0 { "bob" } else { "ann" };
            // Several rows share a millisecond, so that only the id tells them apart.
            let at = n / 5;
            db.create_room(&room(&format!("room-{n}"), owner, at)).await.expect("created");
            db.create_destination(&destination(owner, at)).await.expect("created");
            db.create_stream(&stream(owner, at)).await.expect("created");
            let recording = RecordingRow { owner: user(owner), ..recording(&of, 1, at) };
            db.create_recording(&recording).await.expect("created");
        }
        for (owner, count) in [(None, 23), (Some(user("ann")), 15), (Some(user("bob")), 8), (Some(user("cy")), 0)] {
            let owner = owner.as_ref();
            for limit in [1, 4, 200] {
                let lists = [
                    walk(limit, async |page| {
                        let rows = db.rooms(owner, page).await.expect("answers");
                        rows.into_iter().map(|row| (row.created_at_ms, row.id.to_string())).collect()
                    })
                    .await,
                    walk(limit, async |page| {
                        let rows = db.destinations(owner, page).await.expect("answers");
                        rows.into_iter().map(|row| (row.created_at_ms, row.id.to_string())).collect()
                    })
                    .await,
                    walk(limit, async |page| {
                        let rows = db.streams(owner, page).await.expect("answers");
                        rows.into_iter().map(|row| (row.created_at_ms, row.id.to_string())).collect()
                    })
                    .await,
                    walk(limit, async |page| {
                        let rows = db.recordings(owner, page).await.expect("answers");
                        rows.into_iter().map(|row| (row.created_at_ms, row.id.to_string())).collect()
                    })
                    .await,
                ];
                for seen in lists {
                    assert_eq!(seen.len(), count);
                    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), count, "no row twice");
                    assert!(seen.is_sorted_by(|newer, older| newer.0 >= older.0), "newest first");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_page_has_a_row_at_least_and_two_hundred_at_most() {
    on_every_database(async |db| {
        for n in 0..205 {
            db.create_room(&room(&format!("room-{n}"), "ann", n)).await.expect("created");
        }
        assert_eq!(db.rooms(None, page(0)).await.expect("answers").len(), 1);
        assert_eq!(db.rooms(None, page(u32::MAX)).await.expect("answers").len(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_closed_database_says_so() {
    on_every_database(async |db| {
        db.ping().await.expect("answers");
        db.close().await;
        let error = db.ping().await.expect_err("closed");
        assert_eq!(error.fault(), Fault::Internal);
    })
    .await;
}

#[tokio::test]
async fn the_file_is_made_for_this_user_and_keeps_its_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/data/jamcast.db");
    let jam = room("jam", "ann", 1);
    let url = sqlite_url(&path);
    let first = Db::open(&url).await.expect("opens");
    // A second one beside the first, as a backup or the next version of the program opens it.
    let second = Db::open(&url).await.expect("opens");
    first.create_room(&jam).await.expect("created");
    assert_eq!(second.room(&jam.id).await.expect("answers"), Some(jam.clone()));
    for entry in fs::read_dir(path.parent().expect("a folder")).expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} is open to others", entry.file_name());
    }
    first.close().await;
    second.close().await;
    let again = Db::open(&format!("sqlite://{}", path.display())).await.expect("opens");
    assert_eq!(again.room(&jam.id).await.expect("answers"), Some(jam));
    again.close().await;
}

/// The rows of the first version, as it wrote them.
const FIRST_ROWS: [&str; 2] = [
    "INSERT INTO destinations VALUES ('dst_0190a3f0000070008000000000000000', 'ann', 'Ours', 'x', TRUE, 'a.example', 443, 'live', 'sealed', '••', 5)",
    "INSERT INTO streams VALUES ('str_0190a3f0000070008000000000000000', 'ann', 'jam', 'Friday', '{PROGRAMME}', '[]', TRUE, NULL, 'ended', NULL, 5, 6, 7)",
];

#[tokio::test]
async fn a_database_of_the_first_version_keeps_its_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = sqlite_url(&folder.path().join("jamcast.db"));
    let mut urls = vec![format!("{sqlite}?mode=rwc")];
    if let Ok(server) = std::env::var("JAMCAST_TEST_POSTGRES") {
        urls.push(empty_postgres(&server).await);
    }
    let first = sqlx::migrate::Migrator::with_migrations(vec![sqlx::migrate::Migration::new(
        1,
        "first rows".into(),
        sqlx::migrate::MigrationType::Simple,
        sqlx::SqlSafeStr::into_sql_str(include_str!("../../migrations/0001_first_rows.sql")),
        false,
    )]);
    let programme = serde_json::to_string(&ProgrammeSpec::default()).expect("plain values");
    for url in urls {
        let rows = FIRST_ROWS.map(|row| AssertSqlSafe(row.replace("{PROGRAMME}", &programme)));
        if url.starts_with("sqlite") {
            let mut connection = SqliteConnection::connect(&url).await.expect("opens");
            first.run(&mut connection).await.expect("the first version's tables");
            for row in rows {
                sqlx::query(row).execute(&mut connection).await.expect("stored");
            }
            connection.close().await.expect("closes");
        } else {
            let mut connection = PgConnection::connect(&url).await.expect("opens");
            first.run(&mut connection).await.expect("the first version's tables");
            for row in rows {
                sqlx::query(row).execute(&mut connection).await.expect("stored");
            }
            connection.close().await.expect("closes");
        }
        let db = Db::open(url.trim_end_matches("?mode=rwc")).await.expect("is brought up to date");
        let destinations = db.destinations(Some(&user("ann")), page(10)).await.expect("answers");
        assert_eq!((destinations.len(), &destinations[0].room), (1, &None), "it belongs to the whole account");
        assert!(!destinations[0].primary, "nobody has marked it");
        let streams = db.streams(Some(&user("ann")), page(10)).await.expect("answers");
        assert_eq!((streams.len(), &streams[0].outcome), (1, &None));
        db.close().await;
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = sqlite_url(&folder.path().join("jamcast.db"));
    Db::open(&url).await.expect("opens").close().await;
    let mut connection = SqliteConnection::connect(&url).await.expect("opens");
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', TRUE, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .expect("inserted");
    connection.close().await.expect("closes");
    let error = Db::open(&url).await.expect_err("refused");
    assert!(format!("{error:?}").contains("Migrate"), "{error:?}");
}

#[tokio::test]
async fn a_url_that_cannot_be_meant_is_refused_without_showing_its_password() {
    // Port 1 of loopback takes no connections.
    for url in [
        "",
        "sqlite:",
        "sqlite::memory:",
        "mysql://u:canary@127.0.0.1/db",
        "postgres://u:canary@127.0.0.1:1/db",
        "sqlite:/proc/none/x.db",
    ] {
        let error = Db::open(url).await.expect_err("refused");
        let source = std::error::Error::source(&error).expect("why");
        assert!(!format!("{error} {source} {error:?}").contains("canary"), "{url}");
    }
}

#[tokio::test]
async fn a_stream_key_is_never_in_the_database_in_plain_text() {
    const CANARIES: [&str; 2] = ["live_canary_4bd1e0", "live_second_99f2c7"];
    let folder = tempfile::tempdir().expect("a folder");
    let vault = Keyring::load(None, &folder.path().join("master.key")).expect("made");
    let data = folder.path().join("data");
    let scan = || {
        let mut bytes = Vec::new();
        for entry in fs::read_dir(&data).expect("a folder") {
            bytes.extend(fs::read(entry.expect("an entry").path()).expect("a file"));
        }
        bytes
    };
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());

    let db = Db::open(&sqlite_url(&data.join("jamcast.db"))).await.expect("opens");
    let [first, second] = CANARIES.map(|key| StreamKey::new(key.to_owned()).expect("well formed"));
    let row = destination("ann", 1);
    let row = DestinationRow { sealed_key: vault.seal(row.id, &first), key_hint: first.hint(), ..row };
    db.create_destination(&row).await.expect("created");
    db.rotate_key(row.id, &vault.seal(row.id, &second), &second.hint()).await.expect("answers");

    let stored = db.destination(row.id).await.expect("answers").expect("kept");
    assert_eq!(vault.open(row.id, &stored.sealed_key).expect("opens"), second);

    // With the write-ahead log beside the file, and after it was folded in.
    let open = scan();
    db.close().await;
    let closed = scan();
    for bytes in [open, closed] {
        assert!(holds(&bytes, "Our channel"), "the scan sees what is stored");
        for canary in CANARIES {
            assert!(!holds(&bytes, canary));
        }
    }
}
