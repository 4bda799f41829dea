//! What a first run finds: a room, a destination, the ingest on this machine that it leads to, and a link for the host.

use std::net::SocketAddr;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use anyhow::Result;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::private_folder;
use crate::config::Config;
use crate::driver::identity::Tokens;
use crate::driver::ingest;
use crate::driver::store::Db;
use crate::driver::vault::Keyring;
use crate::live::port::DestinationRow;
use crate::live::port::Identity;
use crate::live::port::Page;
use crate::live::port::RoomRow;
use crate::live::port::Store;
use crate::live::port::Vault;
use crate::model::id::DestinationId;
use crate::model::id::RoomId;
use crate::model::id::UserId;
use crate::model::role::RoomGrant;
use crate::model::role::RoomRole;
use crate::model::secret::StreamKey;
use crate::model::spec::RtmpEndpoint;

/// The host can rehearse and play a whole day on one link.
const TOKEN_S: u64 = 24 * 3600;

/// Who owns it all.
const USER: &str = "demo";
const ROOM: &str = "demo";
const APP: &str = "live";
const DESTINATION: &str = "Ingest on this machine";

/// The ingest of a first run, and the leave to dial it.
pub(super) async fn start_ingest(
    config: &mut Config,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) -> Result<Option<SocketAddr>> {
    if !config.demo.enabled {
        return Ok(None);
    }
    let folder = config.data.folder.join("ingest");
    private_folder(&folder)?;
    let receiver = ingest::Ingest::bind(ingest::Config {
        folder,
        listen: config.demo.ingest_listen,
        app: APP.to_owned(),
        key: None,
        ..config.ingest.clone()
    })
    .await
    .with_context(|| {
        format!("the demo's ingest cannot listen at {}; set demo.ingest_listen", config.demo.ingest_listen)
    })?;
    let address = receiver.address();
    config.publish.allowed_hosts.push(address.to_string().parse().context("an address is a host rule")?);
    tracker.spawn(receiver.run(shutdown.clone()));
    Ok(Some(address))
}

/// The demo's room and its destination, unless they are there from an earlier run.
pub(super) async fn seed(store: &Db, vault: &Keyring, ingest: SocketAddr) -> Result<()> {
    let owner: UserId = USER.parse().context("a user")?;
    let room: RoomId = ROOM.parse().context("a room")?;
    if store.room(&room).await?.is_none() {
        let title = "Demo room".to_owned();
        store.create_room(&RoomRow { id: room, owner: owner.clone(), title, created_at_ms: now_ms() }).await?;
    }
    let endpoint = RtmpEndpoint { tls: false, host: ingest.ip().to_string(), port: ingest.port(), app: APP.to_owned() };
    // The port may be another than in the last run, and then the old row leads nowhere.
    for old in store.destinations(Some(&owner), Page { limit: 200, before: None }).await? {
        if old.name == DESTINATION {
            if old.endpoint == endpoint {
                return Ok(());
            }
            store.delete_destination(old.id).await?;
        }
    }
    let id = DestinationId::generate();
    let key = StreamKey::new("demo-stream".to_owned()).context("a key")?;
    let row = DestinationRow {
        id,
        owner,
        room: None,
        name: DESTINATION.to_owned(),
        platform: "custom".to_owned(),
        endpoint,
        primary: false,
        sealed_key: vault.seal(id, &key),
        key_hint: key.hint(),
        backup: None,
        created_at_ms: now_ms(),
    };
    store.create_destination(&row).await?;
    Ok(())
}

/// What to do first, for the person at the terminal.
pub(super) fn invitation(config: &Config, identity: &Tokens) -> Result<String> {
    let host = RoomGrant {
        room: ROOM.parse().context("a room")?,
        user: USER.parse().context("a user")?,
        role: RoomRole::Host,
        name: "Host".to_owned(),
    };
    let token = identity.mint_room(&host, TOKEN_S);
    Ok(format!(
        "\nThe studio is open:\n\n  {}\n\n\
         1. Open this link in a browser and allow camera and microphone.\n\
         2. Press Invite and open that link in a second window: that is your fellow musician.\n\
         3. Press Go live. What the world would see is written to {}.\n\
         4. Press Stop. The recording is in the studio and in {}.\n\n\
         Ctrl-C ends everything.\n",
        config.http.studio_url(&token),
        config.data.folder.join("ingest").display(),
        config.data.folder.join("recordings").display(),
    ))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
