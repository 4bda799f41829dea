//! WHIP and WHEP as an encoder and a player meet them.

use jamcast::live::rooms::Event;
use jamcast::live::rooms::Transport;
use jamcast::proto::whip::MAX_BODY;
use jamcast::web::problem::Problem;
use jamcast::web::whip;
use jamcast::web::ws;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;

use crate::signal::fake::ANSWER;
use crate::signal::fake::Gateway;

const OFFER: &str = "v=0\r\no=- 5 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=sendonly\r\na=ice-ufrag:EsAw\r\n\
    a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=sendonly\r\n";
const TRICKLE: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
    a=candidate:bad\r\na=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n";
const RESTART: &str = "a=ice-ufrag:fresh\r\na=ice-pwd:vAljGYBcXKMMnXzwnnXjkxqU\r\n";

fn to(gateway: &Gateway, method: &str, path: &str) -> RequestBuilder {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    reqwest::Client::new().request(method, format!("http://{}{path}", gateway.address))
}

async fn post(gateway: &Gateway, path: &str, token: &str, offer: &str) -> Response {
    let request = to(gateway, "POST", path).bearer_auth(token).header("content-type", "application/sdp");
    request.body(offer.to_owned()).send().await.unwrap()
}

async fn patch(gateway: &Gateway, path: &str, if_match: Option<&str>, fragment: &str) -> Response {
    let mut request = to(gateway, "PATCH", path).bearer_auth("musician.jam.ada");
    request = request.header("content-type", "application/trickle-ice-sdpfrag");
    if let Some(tag) = if_match {
        request = request.header("if-match", tag);
    }
    request.body(fragment.to_owned()).send().await.unwrap()
}

/// Status and code of a refusal, which must be a problem.
async fn problem(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{status}");
    if status == 503 {
        assert!(response.headers().contains_key("retry-after"));
    }
    let problem: Problem = response.json().await.unwrap();
    assert_eq!(problem.status, status);
    (status, problem.code)
}

#[tokio::test]
async fn an_encoder_publishes_trickles_restarts_and_leaves() {
    let gateway = Gateway::start().await;
    let created = post(&gateway, "/whip/jam", "musician.jam.ada", OFFER).await;
    assert_eq!(created.status(), 201);
    let header = |name: &str| created.headers()[name].to_str().unwrap().to_owned();
    let location = header("location");
    assert!(location.starts_with("/whip/jam/par_"), "{location}");
    assert_eq!((header("etag"), header("content-type")), ("\"1\"".into(), "application/sdp".into()));
    assert_eq!(header("accept-patch"), "application/trickle-ice-sdpfrag");
    assert_eq!(
        header("link"),
        "<turn:turn.example.org:3478?transport=udp>; rel=\"ice-server\"; username=\"ada\"; \
         credential=\"open \\\"sesame\\\"\"; credential-type=\"password\""
    );
    let links: Vec<_> = created.headers().get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
    let whose = location.rsplit('/').next().unwrap();
    assert!(
        links[1].starts_with("<turn:relay.example.org>; rel=\"ice-server\"; username=\"") && links[1].contains(whose)
    );
    assert!(!links[1].contains("turn-canary"));
    assert!(header("access-control-expose-headers").contains("location"));
    assert_eq!(created.text().await.unwrap(), ANSWER);

    assert_eq!(patch(&gateway, &location, Some("\"1\""), TRICKLE).await.status(), 204);
    assert_eq!(problem(patch(&gateway, &location, None, TRICKLE).await).await, (428, "if_match_required".into()));
    let outdated = patch(&gateway, &location, Some("\"7\""), TRICKLE).await;
    assert_eq!(problem(outdated).await, (412, "wrong_entity_tag".into()));
    assert_eq!(problem(patch(&gateway, &location, Some("*"), "hi").await).await, (422, "bad_fragment".into()));
    let unasked = patch(&gateway, &location, Some("\"1\""), RESTART).await;
    assert_eq!(problem(unasked).await, (422, "wrong_ice_credentials".into()));
    let restarted = patch(&gateway, &location, Some("*"), RESTART).await;
    assert_eq!((restarted.status().as_u16(), &restarted.headers()["etag"]), (200, &"\"2\"".parse().unwrap()));
    assert!(restarted.text().await.unwrap().contains("a=ice-ufrag:srvA"));

    let stranger = to(&gateway, "DELETE", &location).bearer_auth("musician.jam.eve").send().await.unwrap();
    assert_eq!(problem(stranger).await, (403, "not_yours".into()));
    let wrong_side = location.replace("/whip/", "/whep/");
    for (path, status) in [(&wrong_side, 404), (&location, 200), (&location, 404)] {
        let deleted = to(&gateway, "DELETE", path).bearer_auth("musician.jam.ada").send().await.unwrap();
        assert_eq!(deleted.status(), status, "{path}");
    }
    gateway.heard.wait_for("leave").await;
    let expected = [
        "join ada Musician",
        "publish",
        "produce 0 Microphone",
        "produce 1 Camera",
        "candidate Send bad",
        "candidate Send 1 1 udp 1 192.0.2.1 5000 typ host",
        "publish",
        "leave",
    ];
    assert_eq!(gateway.heard.requests(), expected);
}

#[tokio::test]
async fn a_player_subscribes_and_is_told_that_it_cannot_restart() {
    let gateway = Gateway::start().await;
    let offer = OFFER.replace("sendonly", "recvonly");
    let created = post(&gateway, "/whep/jam", "viewer.jam.ada", &offer).await;
    assert_eq!(created.status(), 201);
    let location = created.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(patch(&gateway, &location, Some("\"1\""), TRICKLE).await.status(), 204);
    let refused = patch(&gateway, &location, Some("*"), RESTART).await;
    assert_eq!(problem(refused).await, (422, "restart_unsupported".into()));
    gateway.heard.wait_for("candidate Recv 1 1 udp 1 192.0.2.1 5000 typ host").await;
    assert_eq!(&gateway.heard.requests()[..2], ["join ada Viewer", "subscribe"]);
}

#[tokio::test]
async fn every_refusal_has_its_status_and_code() {
    let gateway = Gateway::start().await;
    let no_token = to(&gateway, "POST", "/whip/jam").header("content-type", "application/sdp").body(OFFER);
    let refused = no_token.send().await.unwrap();
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    assert_eq!(problem(refused).await, (401, "token_missing".into()));
    let recvonly = OFFER.replace("sendonly", "recvonly");
    let huge = format!("{OFFER}{}", "x".repeat(MAX_BODY));
    for (token, offer, status, code) in [
        ("wrong", OFFER, 401, "token_invalid"),
        ("expired", OFFER, 401, "token_expired"),
        ("musician.other.ada", OFFER, 403, "wrong_room"),
        ("viewer.jam.ada", OFFER, 403, "role_too_low"),
        ("musician.jam.ada", "hello", 400, "bad_sdp"),
        ("musician.jam.ada", recvonly.as_str(), 400, "bad_sdp"),
        ("musician.jam.ada", huge.as_str(), 413, "body_too_large"),
        ("musician.jam.ada", &format!("{OFFER}a=no-codec\r\n"), 406, "no_common_codec"),
        ("musician.jam.late", OFFER, 503, "room_full"),
    ] {
        assert_eq!(problem(post(&gateway, "/whip/jam", token, offer).await).await, (status, code.to_owned()));
    }
    let json =
        to(&gateway, "POST", "/whip/jam").bearer_auth("musician.jam.ada").header("content-type", "application/json");
    assert_eq!(problem(json.body("{}").send().await.unwrap()).await, (415, "unsupported_media_type".into()));
    let get = to(&gateway, "GET", "/whip/jam").send().await.unwrap();
    assert!(get.headers()["allow"].to_str().unwrap().contains("POST"));
    assert_eq!(problem(get).await, (405, "method_not_allowed".into()));
    let nobody = patch(&gateway, "/whip/jam/par_none", Some("*"), TRICKLE).await;
    assert_eq!(problem(nobody).await, (404, "unknown_peer".into()));
    gateway.heard.wait_for("leave").await;
    let requests = gateway.heard.requests();
    assert_eq!(requests, ["join ada Musician", "publish", "leave", "join late Musician"], "a refused peer has left");
}

#[tokio::test]
async fn pages_may_ask_what_is_allowed() {
    let gateway = Gateway::start().await;
    let options = to(&gateway, "OPTIONS", "/whep/jam").send().await.unwrap();
    assert_eq!(options.status(), 204);
    assert_eq!(options.headers()["accept-post"], "application/sdp");
    assert_eq!(options.headers()["access-control-allow-origin"], "*");
    assert!(options.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
}

#[tokio::test]
async fn a_peer_that_is_removed_or_never_connects_is_gone() {
    let impatient = whip::Config { connect_timeout_ms: 150, max_peers: 1 };
    let gateway = Gateway::start_with(ws::Config::default(), impatient).await;
    let created = post(&gateway, "/whip/jam", "musician.jam.ada", OFFER).await;
    let location = created.headers()["location"].to_str().unwrap().to_owned();
    let second = post(&gateway, "/whip/jam", "musician.jam.bob", OFFER).await;
    assert_eq!(problem(second).await, (503, "too_many_peers".into()));
    gateway.heard.wait_for("leave").await;
    assert_eq!(patch(&gateway, &location, Some("*"), TRICKLE).await.status(), 404);

    let created = post(&gateway, "/whip/jam", "musician.jam.ada", OFFER).await;
    let location = created.headers()["location"].to_str().unwrap().to_owned();
    gateway.heard.tell(&Event::TransportConnected(Transport::Send));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(patch(&gateway, &location, Some("*"), TRICKLE).await.status(), 204, "a connected peer stays");
    gateway.heard.tell(&Event::Removed { reason: "kicked" });
    for _ in 0..100 {
        if patch(&gateway, &location, Some("*"), TRICKLE).await.status() == 404 {
            return;
        }
    }
    panic!("the removed peer's resource is still there");
}
