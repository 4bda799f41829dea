//! The STUN and TURN servers told to who enters a room, with credentials of their own for each.

use std::sync::Arc;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;

use crate::model::id::ParticipantId;
use crate::proto::signal::IceServer;
use crate::proto::turn;

/// Settings of the TURN servers among `http.ice_servers`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// TURN_SECRET: what they were given as `static-auth-secret`. Servers with a credential of their own keep that.
    pub secret: Option<SecretString>,
    /// How long a participant's credentials are good; a stay longer than this cannot make new relays.
    pub ttl_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { secret: None, ttl_s: 24 * 3600 }
    }
}

/// All servers, for everybody.
#[derive(Clone, Debug)]
pub struct IceServers {
    servers: Arc<[IceServer]>,
    turn: Config,
}

impl IceServers {
    pub fn new(servers: &[IceServer], turn: &Config) -> Self {
        Self { servers: servers.into(), turn: turn.clone() }
    }

    /// The servers as this participant may use them from `now` on.
    pub fn of(&self, participant: ParticipantId, now: SystemTime) -> Vec<IceServer> {
        let expires = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().saturating_add(self.turn.ttl_s);
        let own = |server: &IceServer| {
            let secret = self.turn.secret.as_ref().filter(|_| lacks_credentials(server));
            let Some(secret) = secret else { return server.clone() };
            let (username, credential) = turn::credentials(secret.expose_secret(), &participant.to_string(), expires);
            IceServer { urls: server.urls.clone(), username: Some(username), credential: Some(credential) }
        };
        self.servers.iter().map(own).collect()
    }
}

/// Why these servers cannot be told to a browser, which refuses the whole connection for one that it cannot use.
pub(crate) fn complaint(servers: &[IceServer], turn: &Config) -> Option<String> {
    let schemes = ["stun:", "stuns:", "turn:", "turns:"];
    let mut urls = servers.iter().flat_map(|server| &server.urls);
    if let Some(url) = urls.find(|url| !schemes.iter().any(|scheme| url.starts_with(scheme))) {
        return Some(format!("http.ice_servers: `{url}` does not begin with stun:, stuns:, turn: or turns:"));
    }
    let open = servers.iter().find(|server| lacks_credentials(server)).filter(|_| turn.secret.is_none());
    open.map(|server| {
        format!(
            "http.ice_servers: {} has no credential; set http.turn.secret or username and credential",
            server.urls[0]
        )
    })
}

fn lacks_credentials(server: &IceServer) -> bool {
    let is_turn = server.urls.iter().any(|url| url.starts_with("turn"));
    is_turn && (server.username.is_none() || server.credential.is_none())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::signal::Hidden;

    fn server(url: &str) -> IceServer {
        IceServer { urls: vec![url.to_owned()], username: None, credential: None }
    }

    fn with_secret() -> Config {
        Config { secret: Some("canary".into()), ttl_s: 60 }
    }

    #[test]
    fn each_participant_has_turn_credentials_of_its_own() {
        let fixed = IceServer {
            username: Some("ada".to_owned()),
            credential: Some(Hidden::new("lovelace".to_owned())),
            ..server("turns:fixed.example")
        };
        let servers =
            IceServers::new(&[server("stun:a.example"), server("turn:b.example"), fixed.clone()], &with_secret());
        let (anna, ben) = (ParticipantId::generate(), ParticipantId::generate());
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let told = servers.of(anna, now);
        assert_eq!((&told[0], &told[2]), (&server("stun:a.example"), &fixed));
        assert_eq!(told[1].username, Some(format!("1060:{anna}")));
        assert_ne!(told[1].credential, servers.of(ben, now)[1].credential);
        assert!(!format!("{servers:?} {told:?}").contains("canary"));
    }

    #[test]
    fn servers_that_browsers_would_refuse_are_named() {
        let complaint_of = |url, turn: Config| complaint(&[server("stun:a.example"), server(url)], &turn);
        assert_eq!(complaint_of("turn:b.example", with_secret()), None);
        assert!(complaint_of("turn:b.example", Config::default()).is_some_and(|text| text.contains("turn.secret")));
        assert!(complaint_of("https://b.example", with_secret()).is_some_and(|text| text.contains("https://b")));
    }
}
