//! The delay table of a room, from real peers to signalling and the REST API.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures::SinkExt;
use futures::StreamExt;
use jamcast::live::rooms::Request;
use jamcast::model::role::RoomGrant;
use jamcast::model::role::RoomRole;
use jamcast::web::config::Config;
use serde_json::Value;
use serde_json::json;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::House;
use super::Musician;
use super::PATIENCE;
use crate::api::world::World;

/// Somebody in the studio.
struct Person {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    pushed: VecDeque<Value>,
    calls: u64,
    id: String,
    _plays: Musician,
    microphone: Value,
}

impl Person {
    /// Joins and plays.
    async fn enter(address: SocketAddr, token: &str) -> Self {
        let mut request = format!("ws://{address}/media-relay").into_client_request().expect("a URL");
        request.headers_mut().insert("sec-websocket-protocol", "jamcast.v1".parse().expect("a header"));
        let (socket, _) = tokio_tungstenite::connect_async(request).await.expect("a socket");
        let mut plays = Musician::new().await;
        plays.play().await;
        let (pushed, id, microphone) = (VecDeque::new(), String::new(), Value::Null);
        let offer = plays.offer().await;
        let mut person = Self { socket, pushed, calls: 0, id, _plays: plays, microphone };
        let joined = person.call("join", json!({"token": token})).await;
        person.id = joined["you"]["id"].as_str().expect("an id").to_owned();
        let answer = person.call("connect", json!({"transport": "send", "sdp": offer})).await;
        person._plays.accept(answer["sdp"].as_str().expect("an answer").to_owned()).await;
        let produced = person.call("produce", json!({"mid": "0", "source": "microphone"})).await;
        person.microphone = produced["producer_id"].clone();
        person
    }

    /// Hears somebody else; the consumer, and what it is heard with.
    async fn hear(&mut self, producer: &Value) -> (Value, Musician) {
        let consumed = self.call("consume", json!({"producer_id": producer})).await;
        let offer = self.push("offer").await;
        let mut ear = Musician::new().await;
        let answer = ear.answer(offer["sdp"].as_str().expect("an offer")).await;
        let connect = json!({"transport": "recv", "offer_id": offer["offer_id"], "sdp": answer});
        self.call("connect", connect).await;
        (consumed["consumer"]["id"].clone(), ear)
    }

    async fn frame(&mut self) -> Value {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the gateway says nothing");
            if let Message::Text(text) = frame.expect("the socket is open").expect("whole") {
                return serde_json::from_str(&text).expect("JSON");
            }
        }
    }

    async fn call(&mut self, method: &str, data: Value) -> Value {
        self.calls += 1;
        let call = json!({"id": self.calls, "method": method, "data": data});
        self.socket.send(Message::text(call.to_string())).await.expect("sent");
        loop {
            let frame = self.frame().await;
            if frame["id"] == self.calls {
                assert_eq!(frame["ok"], true, "{method}: {frame}");
                return frame["data"].clone();
            }
            self.pushed.push_back(frame);
        }
    }

    async fn push(&mut self, method: &str) -> Value {
        loop {
            let next = match self.pushed.pop_front() {
                Some(pushed) => pushed,
                None => self.frame().await,
            };
            if next["method"] == method {
                return next["data"].clone();
            }
        }
    }
}

fn path<'a>(table: &'a Value, from: &Person, to: &Person) -> Option<&'a Value> {
    let paths = table["paths"].as_array().expect("paths");
    paths.iter().find(|path| path["from"] == from.id.as_str() && path["to"] == to.id.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_told_how_late_they_hear_each_other() {
    let house = House::open();
    let world = World::around(house.rooms.clone(), Config::default(), None).await;
    let owner = world.streamer("anna");
    world.room(&owner, "jam").await;
    let token = |user: &str, role| {
        let grant =
            RoomGrant { room: house.room.clone(), user: user.parse().expect("a user"), role, name: user.into() };
        world.gateway.identity.mint_room(&grant, 600)
    };
    let (host, musician, viewer) =
        (token("anna", RoomRole::Host), token("ben", RoomRole::Musician), token("vera", RoomRole::Viewer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let service = world.app.clone().into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, service).await });

    let mut anna = Person::enter(address, &host).await;
    let mut ben = Person::enter(address, &musician).await;
    let (_, _annas_ear) = anna.hear(&ben.microphone).await;
    let (consumer, _bens_ear) = ben.hear(&anna.microphone).await;
    let table = tokio::time::timeout(PATIENCE, async {
        loop {
            let reported = json!({"jitter_buffers": [{"consumer_id": consumer, "delay_ms": 130}]});
            ben.call("stats", reported).await;
            let table = ben.push("delays").await;
            if path(&table, &ben, &anna).is_some() && path(&table, &anna, &ben).is_some() {
                break table;
            }
        }
    });
    let table = table.await.expect("both ways are measured within seconds");
    let to_ben = path(&table, &anna, &ben).expect("just seen");
    assert_eq!((&to_ben["buffer_ms"], &to_ben["grade"]), (&json!(130), &json!("red")));
    let network = to_ben["delay_ms"].as_u64().expect("a number") - 130;
    assert!(network < 100, "over loopback: {table}");
    assert_eq!(path(&table, &ben, &anna).expect("just seen")["buffer_ms"], Value::Null, "nobody has said");

    let leader = anna.id.parse().expect("an id");
    let late = house.rooms.ask(&house.room, |reply| Request::Lateness { leader, reply }).await.expect("a room");
    let [(follower, late)] = late[..] else { panic!("only Ben has said what he holds back: {late:?}") };
    assert_eq!(follower.to_string(), ben.id);
    // His buffer, packets of 40 ms, as their first byte says, and Opus itself.
    let known = Duration::from_micros(130_000 + 40_000 + 6_500);
    assert!((known..known + Duration::from_secs(2)).contains(&late), "{late:?}");

    let ask = async |token: &str| world.get("/api/v1/rooms/jam/delays", token).await.json();
    for caller in [&owner, &host, &musician, &viewer] {
        let told = ask(caller).await;
        let names: Vec<_> = told["participants"].as_array().expect("people").iter().map(|one| &one["name"]).collect();
        assert_eq!(names, ["anna", "ben"]);
        assert_eq!(path(&told, &anna, &ben).expect("in the table")["buffer_ms"], 130);
    }
    anna.call("isolate", json!({"participant_id": ben.id, "isolated": true})).await;
    for (caller, hears_ben) in [(&host, true), (&owner, true), (&musician, false), (&viewer, false)] {
        assert_eq!(path(&ask(caller).await, &ben, &anna).is_some(), hears_ben);
    }
    server.abort();
}
